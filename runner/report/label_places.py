"""Where the names of marks stand in a plot: beside them, and over no other mark or name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.transforms import Bbox

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIZE = 8.5
_HALF_MARK = 4.5
_WIDER = 1.12
"""Browsers set the text of the page in their own font, which may run wider."""
_RINGS = (6.0, 13.0, 22.0, 33.0, 46.0)
"""Distances from a mark to its name that are tried, in points; from the second one on a line joins them."""
_SIDES = ((1, 1), (-1, 1), (1, -1), (-1, -1), (0, 1), (0, -1), (1, 0), (-1, 0))


@dataclass(frozen=True)
class Mark:
    """A point of a plot that is to be named."""

    x: float
    y: float
    name: str
    colour: str


def name_marks(figure: Figure, axes: Axes, marks: Sequence[Mark]) -> int:
    """Name the ``marks`` of ``axes``, the first ones first; how many have no name, because there is no room for it.

    Limits and scales of the axes have to stand, and the names must add nothing to what is laid out.
    """
    renderer = FigureCanvasAgg(figure).get_renderer()
    point = figure.dpi / 72
    frame = axes.get_window_extent(renderer)
    centres = [tuple(axes.transData.transform((mark.x, mark.y))) for mark in marks]
    taken = [_box(x, y, 2 * _HALF_MARK * point, 2 * _HALF_MARK * point) for x, y in centres]
    nameless = 0
    for mark, (x, y) in zip(marks, centres, strict=True):
        text = axes.annotate(mark.name, (mark.x, mark.y), xytext=(0, 0), textcoords="offset points", fontsize=_SIZE,
                             color=mark.colour, ha="center", va="center", in_layout=False)  # fmt: skip
        extent = text.get_window_extent(renderer)
        width, height = extent.width * _WIDER, extent.height
        for ring in _RINGS:
            places = (
                (across * (ring * point + width / 2), along * (ring * point + height / 2) * (0.55 if across else 1.0))
                for across, along in _SIDES
            )
            free = (
                place for place in places if _is_free(_box(x + place[0], y + place[1], width, height), taken, frame)
            )
            if (place := next(free, None)) is not None:
                break
        else:
            text.remove()
            nameless += 1
            continue
        text.set_position((place[0] / point, place[1] / point))
        taken.append(_box(x + place[0], y + place[1], width, height))
        if ring != _RINGS[0]:
            axes.annotate("", (mark.x, mark.y), xytext=_nearest(place, width, height, point), in_layout=False,
                          textcoords="offset points", arrowprops={"arrowstyle": "-", "color": mark.colour,
                          "linewidth": 0.6, "shrinkA": 0, "shrinkB": _HALF_MARK})  # fmt: skip
    return nameless


def _box(x: float, y: float, width: float, height: float) -> Bbox:
    return Bbox.from_bounds(x - width / 2, y - height / 2, width, height)


def _is_free(box: Bbox, taken: Sequence[Bbox], frame: Bbox) -> bool:
    inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
    return inside and not any(box.overlaps(other) for other in taken)


def _nearest(place: tuple[float, float], width: float, height: float, point: float) -> tuple[float, float]:
    """The point of a name's box that is nearest to its mark, in points from that."""
    reach = (width / 2, height / 2)
    ends = [max(abs(at) - half, 0.0) * (1 if at > 0 else -1) for at, half in zip(place, reach, strict=True)]
    return ends[0] / point, ends[1] / point
