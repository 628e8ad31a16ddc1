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
"""Folder, beside the report of a sweep, of its pictures as PNG."""


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

REPORT_NAME, COMPARISON_NAME = "report", "comparison"
"""What the sweep's own report, and that of ``compare``, are called before their endings."""
MARKDOWN_FILE = f"{REPORT_NAME}.md"
REPORT_FILE = f"{REPORT_NAME}.html"


def pictures_of(name: str) -> str:
    """Folder, beside the report ``name``, of its pictures as PNG."""
    return PICTURES if name == REPORT_NAME else f"{name}_{PICTURES}"


def to_markdown(parts: Sequence[Part], pictures: str = PICTURES) -> str:
    """The report as Markdown that links the PNG files in the folder ``pictures``."""
    return "\n\n".join(_part(part, pictures) for part in parts) + "\n"


def read_lead(markdown: str) -> str | None:
    """The text of the paragraph that leads the report ``markdown`` begins with; None where it has none."""
    found = re.match(r"# [^\n]*\n\n\*\*([^\n]+)\*\*\n", markdown)
    return re.sub(r"\\([\\*_|<>\[\]#$])", r"\1", found[1]) if found else None


def _part(part: Part, pictures: str) -> str:
    match part:
        case Figure(picture):
            return f"![{escape(picture.caption)}]({pictures}/{picture.name}.png)\n\n*{escape(picture.caption)}*"
        case Folded(summary, _, file):
            return f"[{escape(summary)}](<{file}>)"
        case _:
            return markdown_of(part)
