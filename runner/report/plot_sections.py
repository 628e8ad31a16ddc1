"""Sections with plots; one that cannot be drawn is noted, and the report goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from runner.records.document import Heading, Paragraph
from runner.report.document import Figure, Part
from runner.report.style import PlotFile

DrawPlot = Callable[[], PlotFile | None]
"""Draws a picture; None where there is nothing to show."""


def drawn(*draws: DrawPlot) -> list[Part]:
    """The pictures, and for each that fails a sentence in its place."""
    parts: list[Part] = []
    for draw in draws:
        try:
            picture = draw()
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            parts.append(Paragraph(f"A picture is missing here, because drawing it failed: {reason}"))
        else:
            parts += [] if picture is None else [Figure(picture)]
    return parts


def section(title: str, *draws: DrawPlot) -> Iterator[Part]:
    """A section of pictures; nothing where there is none."""
    if parts := drawn(*draws):
        yield Heading(2, title)
        yield from parts
