"""One look for every picture, and the two forms in which it is kept.

A PNG stands on white paper.  In the HTML page the same picture is inline SVG whose ink, grid and paper take the colours
of the page, so that it reads as well at night; the colours of the series stand out on either (contrast >= 3).
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator

from runner.records.plot_fonts import boxes_without_warning, families
from runner.records.printable import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

SERIES = ("#3a7ebf", "#d2691e", "#2f9265", "#9161c9", "#d0454f", "#1b93a6", "#998022", "#c9589b")
"""Colours of the first recipes; later ones are muted."""
INK, MUTED, GRID, PAPER = "#1f2328", "#6b7480", "#d5dae0", "#fdfdfe"

_IN_PAGE = {INK: "currentColor", MUTED: "var(--muted)", GRID: "var(--grid)", PAPER: "var(--paper)"}
_WIDTH = 7.4
_DPI = 144

_RULES: Any = {
    "font.size": 9.5,
    "font.family": list(families()),
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.use_mathtext": False,
    "axes.unicode_minus": True,
    # Names of classes, recipes and folders are text: two dollar signs in one are no formula.
    "text.parse_math": False,
    # A matplotlibrc of the working folder is read before this, and TeX is a program.
    "text.usetex": False,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
    "svg.hashsalt": "recipe-runner",
}


@dataclass(frozen=True, kw_only=True)
class PlotFile:
    """A drawn picture."""

    name: str
    """File name without its ending."""
    caption: str
    """What it shows and how it is read."""
    png: bytes
    svg: str
    """An ``svg`` element for a page that defines ``--muted``, ``--grid`` and ``--paper``."""


@contextmanager
def canvas(height: float, *, columns: int = 1, sharey: bool = False) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure of ``height`` inches with ``columns`` axes side by side, in the common style while it is drawn."""
    with matplotlib.rc_context(_RULES):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        axes = figure.subplots(1, columns, squeeze=False, sharey=sharey)[0]
        yield figure, list(axes)


def finish(figure: Figure, name: str, caption: str) -> PlotFile:
    """Render ``figure``, inside ``canvas``, in both forms; the same figure gives the same bytes."""
    png, svg = io.BytesIO(), io.StringIO()
    with boxes_without_warning():
        figure.savefig(svg, format="svg", metadata={"Date": None})
        figure.set_layout_engine("none")  # it is laid out now, and that takes as long as drawing
        figure.savefig(png, format="png", dpi=_DPI, facecolor="white", metadata={"Software": None})
    return PlotFile(name=name, caption=caption, png=png.getvalue(), svg=_for_page(svg.getvalue(), name, caption))


def label_logarithmic(axis: Axis, ticks: Mapping[str, float] | None = None, *, apart: float = 0.08) -> None:
    """Label a logarithmic ``axis``: with plain numbers at powers of ten, or with ``ticks``, label -> place.

    Ticks that lie closer than the share ``apart`` of their range to one before, or to the last, are left out.
    """
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    if not ticks:
        return
    last = max(ticks.values())
    least = apart * math.log(last / min(ticks.values()))
    kept = {label: place for label, place in ticks.items() if place == last}
    for label, place in sorted(ticks.items(), key=lambda tick: tick[1]):
        if all(abs(math.log(place / other)) > least for other in kept.values()):
            kept[label] = place
    axis.set_ticks(list(kept.values()), labels=list(kept))


def name_series(figure: Figure, labels: Sequence[str]) -> None:
    """A legend above the picture, where there is more than one series; those without a colour are counted."""
    if len(labels) < 2:
        return
    lines = [Line2D([], [], color=colour(position)) for position in range(min(len(labels), len(SERIES) + 1))]
    texts = [shortened(label) for label in labels[: len(SERIES)]]
    if len(labels) > len(SERIES):
        texts.append(f"{len(labels) - len(SERIES)} others")
    columns = 96 // (max(len(text) for text in texts) + 7)
    figure.legend(lines, texts, loc="outside upper left", ncols=max(1, min(len(texts), columns)))


def colour(position: int) -> str:
    """Colour of the recipe at ``position``."""
    return SERIES[position] if position < len(SERIES) else MUTED


def _for_page(text: str, name: str, caption: str) -> str:
    """The ``svg`` element of a file, in the page's colours, with names of its own for what it refers to."""
    element = text[text.index("<svg") :].strip()
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    element = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{name}-", element)
    for fixed, adaptive in _IN_PAGE.items():
        element = element.replace(fixed, adaptive)
    label = caption.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace("`", "")
    # the page gives the size, and the style sheet inside would hold for all of the page
    element = re.sub(r' (?:width|height)="[^"]*pt"', "", element, count=2)
    element = re.sub(r"<style.*?</style>", "", element, flags=re.DOTALL)
    return element.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
