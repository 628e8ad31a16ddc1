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
_SLANT = 0.55
"""By which a name beside its mark stands lower, or less low, than one over or under it."""
_SIDES = ((1, 1), (-1, 1), (1, -1), (-1, -1), (0, 1), (0, -1), (1, 0), (-1, 0))

Pair = tuple[float, float]


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
    taken = [_box(centre, (2 * _HALF_MARK * point, 2 * _HALF_MARK * point)) for centre in centres]
    nameless = 0
    for number, (mark, centre) in enumerate(zip(marks, centres, strict=True)):
        text = axes.annotate(mark.name, (mark.x, mark.y), xytext=(0, 0), textcoords="offset points", fontsize=_SIZE,
                             color=mark.colour, ha="center", va="center", in_layout=False)  # fmt: skip
        extent = text.get_window_extent(renderer)
        size = (extent.width * _WIDER, extent.height)
        others = taken[:number] + taken[number + 1 :]
        free = (
            (ring, offset)
            for ring in _RINGS
            for offset in _offsets(ring * point, size)
            if _is_free(centre, offset, size, others if ring > _RINGS[0] else taken, frame, joined=ring > _RINGS[0])
        )
        if (place := next(free, None)) is None:
            text.remove()
            nameless += 1
            continue
        ring, offset = place
        text.set_position((offset[0] / point, offset[1] / point))
        taken.append(_box(_moved(centre, offset), size))
        if ring > _RINGS[0]:
            end = _nearest(offset, size)
            axes.annotate("", (mark.x, mark.y), xytext=(end[0] / point, end[1] / point), textcoords="offset points",
                          in_layout=False, arrowprops={"arrowstyle": "-", "color": mark.colour, "linewidth": 0.6,
                          "shrinkA": 0, "shrinkB": _HALF_MARK})  # fmt: skip
    return nameless


def _offsets(distance: float, size: Pair) -> list[Pair]:
    """Places of a name of that ``size`` about its mark, the preferred ones first."""
    return [
        (
            across * (distance + size[0] / 2),
            along * (distance + size[1] / 2) * (_SLANT if across else 1.0),
        )
        for across, along in _SIDES
    ]


def _is_free(centre: Pair, offset: Pair, size: Pair, taken: Sequence[Bbox], frame: Bbox, *, joined: bool) -> bool:
    """Whether a name lies inside the axes and over nothing, and the line that joins it to its mark likewise."""
    box = _box(_moved(centre, offset), size)
    inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
    if not inside or any(box.overlaps(other) for other in taken):
        return False
    end = _nearest(offset, size)
    line = [_moved(centre, (end[0] * share / 8, end[1] * share / 8)) for share in range(9)] if joined else []
    return not any(other.contains(*point) for other in taken for point in line)


def _moved(centre: Pair, offset: Pair) -> Pair:
    return centre[0] + offset[0], centre[1] + offset[1]


def _box(centre: Pair, size: Pair) -> Bbox:
    return Bbox.from_bounds(centre[0] - size[0] / 2, centre[1] - size[1] / 2, *size)


def _nearest(offset: Pair, size: Pair) -> Pair:
    """The point of a name's box that is nearest to its mark, seen from that."""
    ends = [max(abs(at) - whole / 2, 0.0) * (1 if at > 0 else -1) for at, whole in zip(offset, size, strict=True)]
    return ends[0], ends[1]
