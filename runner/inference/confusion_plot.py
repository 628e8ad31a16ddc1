"""The confusion matrix as a picture: shares of each true class by colour, counts as figures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from runner.records.plot_fonts import boxes_without_warning, families, missing_letters
from runner.records.printable import printable, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_FIGURES = 20
"""Classes up to which each cell shows its count."""
MOST_NAMES = 60
"""Classes up to which each one is named along the sides."""
LONGEST_NAME = 18


def draw_confusion(confusion: NDArray[np.int64], classes: Sequence[str], *, title: str) -> bytes:
    """A PNG of ``confusion`` [K, K] (row true, column predicted), a few inches wide and wider with more classes."""
    # Names are text: two dollar signs in one are no formula, and TeX is not started for one where a matplotlibrc of the
    # working folder says so.
    rules: Any = {"text.parse_math": False, "text.usetex": False, "font.family": list(families())}
    with matplotlib.rc_context(rules), boxes_without_warning():
        return _draw(confusion, list(map(printable, classes)), title="\n".join(map(printable, title.split("\n"))))


def undrawn(classes: Sequence[str]) -> str | None:
    """What is to be said of ``classes`` with letters that no font here has; None where each can be drawn."""
    if len(classes) > MOST_NAMES or not (letters := missing_letters(map(printable, classes))):
        return None
    return f"the picture shows boxes for letters that no font installed here has: {shortened(letters)}"


def _draw(confusion: NDArray[np.int64], classes: Sequence[str], *, title: str) -> bytes:
    count = len(classes)
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    side = min(16.0, 3.2 + 0.42 * count)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    colours = LinearSegmentedColormap.from_list("share", ["#ffffff", "#c9dcf0", "#5b93c7", "#1d4e89", "#0b2545"])
    picture = axes.imshow(shares, cmap=colours, vmin=0, vmax=1, interpolation="nearest")
    axes.set_title(title, fontsize=10, loc="left", pad=10)
    axes.set_xlabel("predicted", fontsize=9, labelpad=8)
    axes.set_ylabel("true", fontsize=9, labelpad=8)
    _name_sides(axes, classes)
    if count <= MOST_FIGURES:
        _write_counts(axes, confusion, shares)
        axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(count + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="#e3e7ec", linewidth=0.8)
    axes.tick_params(which="both", length=0)
    for spine in axes.spines.values():
        spine.set_color("#b8c0ca")
    bar = figure.colorbar(picture, ax=axes, shrink=0.8, pad=0.02)
    bar.set_ticks([0, 0.25, 0.5, 0.75, 1], labels=["0%", "25%", "50%", "75%", "100%"])
    bar.ax.tick_params(labelsize=8, length=0)
    bar.set_label("share of the true class", fontsize=8)
    bar.outline.set_edgecolor("#b8c0ca")
    page = io.BytesIO()
    canvas.print_png(page, metadata={"Software": None})
    return page.getvalue()


def _name_sides(axes: Axes, classes: Sequence[str]) -> None:
    count = len(classes)
    if count > MOST_NAMES:
        return
    names = [name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…" for name in classes]
    size = 9 if count <= MOST_FIGURES else 6
    upright = max(map(len, names)) > 3
    axes.set_xticks(
        range(count), names, fontsize=size, rotation=45 if upright else 0, ha="right" if upright else "center"
    )
    axes.set_yticks(range(count), names, fontsize=size)
    if upright:
        for label in axes.get_xticklabels():
            label.set_rotation_mode("anchor")


def _write_counts(axes: Axes, confusion: NDArray[np.int64], shares: NDArray[np.float64]) -> None:
    """Zeros are left out, so that mistakes stand out."""
    for row, column in zip(*np.nonzero(confusion), strict=True):
        colour = "#ffffff" if shares[row, column] > 0.45 else "#25303b"
        weight = "normal" if row == column else "bold"
        text = f"{confusion[row, column]:,}"
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour, fontweight=weight)
