"""A report as a sequence of plain parts, and the same parts as Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from runner.report.style import Picture

PICTURES = "plots"
"""Folder, beside the report, of the pictures as PNG."""


@dataclass(frozen=True)
class Heading:
    """The title (level 1) or the beginning of a section (2)."""

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
class Command:
    """A line to be typed."""

    text: str


@dataclass(frozen=True)
class Figure:
    """A picture with its caption."""

    picture: Picture


Part = Heading | Paragraph | Bullets | Grid | Command | Figure


def to_markdown(parts: Sequence[Part]) -> str:
    """The report as Markdown that links the PNG files in ``PICTURES``."""
    return "\n\n".join(_part(part) for part in parts) + "\n"


def _part(part: Part) -> str:
    match part:
        case Heading(level, text):
            return f"{'#' * level} {_escape(text)}"
        case Paragraph(text, lead):
            return f"**{_escape(text)}**" if lead else _escape(text)
        case Bullets(items):
            return "\n".join(f"- {_escape(item)}" for item in items)
        case Command(text):
            return f"```\n{text}\n```"
        case Figure(picture):
            return f"![{_escape(picture.caption)}]({PICTURES}/{picture.name}.png)\n\n*{_escape(picture.caption)}*"
        case Grid(head, rows, words):
            marks = ["---" if name in words else "---:" for name in head]
            lines = [head, marks, *rows]
            return "\n".join(f"| {' | '.join(_escape(cell) for cell in line)} |" for line in lines)


def _escape(text: str) -> str:
    """``text`` with what Markdown would read as markup made plain; code between backquotes is left as it is."""
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(
        piece.replace("|", r"\|") if piece.startswith("`") else re.sub(r"([\\*_|<>\[\]#])", r"\\\1", piece)
        for piece in pieces
    )
