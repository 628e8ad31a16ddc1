"""A page for people as a sequence of plain parts, and the same parts as Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Heading:
    """The title (level 1) or the beginning of a section (2), or of a part of one (3)."""

    level: int
    text: str


@dataclass(frozen=True)
class Paragraph:
    """Running text; words between backquotes are code."""

    text: str
    lead: bool = False
    """Whether it is the sentence that answers the question."""


@dataclass(frozen=True)
class Bullets:
    """A list of sentences."""

    items: Sequence[str]


@dataclass(frozen=True)
class Grid:
    """A table.  Columns whose head stands in ``words`` hold text; the others hold numbers and are set to the right."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: frozenset[str]


@dataclass(frozen=True)
class ShellCommand:
    """A line to be typed."""

    text: str


Text = Heading | Paragraph | Bullets | Grid | ShellCommand


def markdown_of(part: Text) -> str:
    """``part`` as Markdown, without a line end."""
    match part:
        case Heading(level, text):
            return f"{'#' * level} {escape(text)}"
        case Paragraph(text, lead):
            return f"**{escape(text)}**" if lead else escape(text)
        case Bullets(items):
            return "\n".join(f"- {escape(item)}" for item in items)
        case ShellCommand(text):
            return f"```\n{text}\n```"
        case Grid(head, rows, words):
            marks = ["---" if name in words else "---:" for name in head]
            lines = [head, marks, *rows]
            return "\n".join(f"| {' | '.join(escape(cell) for cell in line)} |" for line in lines)


def escape(text: str) -> str:
    """``text`` with what Markdown would read as markup made plain; code between backquotes is left as it is."""
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(
        piece.replace("|", r"\|") if piece.startswith("`") else re.sub(r"([\\*_|<>\[\]#$])", r"\\\1", piece)
        for piece in pieces
    )
