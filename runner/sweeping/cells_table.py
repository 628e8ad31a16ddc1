"""The live table of a sweep: its cells under way and those that ended last, in the columns that a terminal has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

_GAP = 2
"""Spaces between two columns of the table."""
_REQUEST_WIDTH = 12
"""Columns of the shortest request that still tells cells apart; other columns give way for it."""
_STYLES = {"failed": "red", "refused": "red", "done": "green", "running": "bold"}


@dataclass(frozen=True)
class CellRow:
    """A line of the table; what is not known is empty."""

    label: str
    """Its folder, from the sweep's."""
    request: str
    """What the cell overrides, such as ``optimizer.lr=0.1 seed=1``."""
    state: str
    epoch: str = ""
    validation: str = ""
    time: str = ""


def cells_table(rows: Sequence[CellRow], width: int, *, title: str, caption: str) -> Table:
    """Lay ``rows`` out for a terminal of ``width`` columns.

    Number, state and epoch are always whole.  Where columns are too few, the request loses the groups of its keys, then
    the time, then the validation figure is left out, and the request is cut at its end.
    """
    numbers = [row.label for row in rows]
    columns = {name: [getattr(row, name) for row in rows] for name in ("state", "epoch", "validation", "time")}
    widths = {name: _widest([name, *texts]) for name, texts in {"cell": numbers, **columns}.items()}
    requests = [row.request for row in rows]
    if _widest(requests) > _room(widths, width):
        requests = [" ".join(map(_short_key, request.split(" "))) for request in requests]
    for spare in ("time", "validation"):
        if min(_widest(requests), _REQUEST_WIDTH) <= _room(widths, width):
            break
        del widths[spare], columns[spare]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.title, table.title_justify = Text(title, "bold"), "left"
    table.add_column("cell", justify="right", no_wrap=True, width=widths["cell"])
    room = max(1, min(_widest(requests), _room(widths, width)))
    table.add_column("", no_wrap=True, overflow="ellipsis", width=room)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True, width=widths[name])
    for index, row in enumerate(rows):
        state = Text(row.state, _STYLES.get(row.state, "yellow"))
        others = [texts[index] for name, texts in columns.items() if name != "state"]
        table.add_row(numbers[index], Text(requests[index]), state, *map(Text, others))
    if caption:
        table.caption, table.caption_justify = Text(caption), "left"
    return table


def _widest(texts: Sequence[str]) -> int:
    return max(map(cell_len, texts), default=0)


def _room(widths: dict[str, int], width: int) -> int:
    """What the other columns leave of ``width`` for the request."""
    return width - sum(widths.values()) - _GAP * len(widths)


def _short_key(override: str) -> str:
    """``optimizer.lr=0.1`` without the group of its key."""
    key, equals, value = override.partition("=")
    return f"{key.rpartition('.')[2]}{equals}{value}" if equals else override
