"""A report as a sequence of plain parts, and the same parts as Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.records.document import Text, escape, markdown_of

if TYPE_CHECKING:
    from runner.report.style import PlotFile

PICTURES = "plots"
"""Folder, beside the report, of the pictures as PNG."""


@dataclass(frozen=True)
class Figure:
    """A picture with its caption."""

    picture: PlotFile


@dataclass(frozen=True)
class Folded:
    """A page within the report, of which the first line shows until it is opened; Markdown links its file."""

    summary: str
    parts: Sequence[Text]
    file: str
    """Where the page is by itself, from the report's folder."""


Part = Text | Figure | Folded

MARKDOWN_FILE = "report.md"
REPORT_FILE = "report.html"


def to_markdown(parts: Sequence[Part]) -> str:
    """The report as Markdown that links the PNG files in ``PICTURES``."""
    return "\n\n".join(_part(part) for part in parts) + "\n"


def read_lead(markdown: str) -> str | None:
    """The text of the paragraph that leads the report ``markdown`` begins with; None where it has none."""
    found = re.match(r"# [^\n]*\n\n\*\*([^\n]+)\*\*\n", markdown)
    return re.sub(r"\\([\\*_|<>\[\]#$])", r"\1", found[1]) if found else None


def _part(part: Part) -> str:
    match part:
        case Figure(picture):
            return f"![{escape(picture.caption)}]({PICTURES}/{picture.name}.png)\n\n*{escape(picture.caption)}*"
        case Folded(summary, _, file):
            return f"[{escape(summary)}](<{file}>)"
        case _:
            return markdown_of(part)
