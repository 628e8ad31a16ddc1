"""The one form in which tables are written as CSV and read back: no cell of it is a formula to a spreadsheet.

Spreadsheets compute a cell that begins with one of ``= + - @``, a tab or a line end, wherever it came from: a class
named ``=HYPERLINK(...)`` would send what lies beside it.  Text that begins so, blanks and quotes before it left aside,
is written behind an apostrophe, which ``from_csv`` takes off again.  Numbers, such as -0.5, are written as they are.
Source: OWASP, "CSV Injection".
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_QUOTES = "'\"`\u2018\u2019\u201c\u201d"
# Full-width forms and the minus sign of mathematics count as their ASCII neighbours to some spreadsheets.
_FORMULA = re.compile(f"[{_QUOTES}]*(?:[\\t\\r\\n]|[\\s\ufeff{_QUOTES}]*[=+\\-@\uff1d\uff0b\uff0d\uff20\u2212])")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)", re.ASCII)

_LARGEST_CELL = 2**24


def to_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """The table with a line of column names; a missing value is an empty cell."""
    lines = [_line(columns), *(_line([row.get(column, "") for column in columns]) for row in rows)]
    return "\n".join([*lines, ""])


def from_csv(text: str) -> list[dict[str, str]]:
    """The rows of what ``to_csv`` wrote.

    Raises:
        ValueError: it is no such table.
    """
    csv.field_size_limit(_LARGEST_CELL)
    try:
        lines = [[_meant(cell) for cell in line] for line in csv.reader(io.StringIO(text, newline=""), strict=True)]
    except csv.Error as error:
        raise ValueError(f"not CSV: {error}") from error
    if not lines or len(set(lines[0])) != len(lines[0]) or any(len(line) != len(lines[0]) for line in lines):
        raise ValueError("not a table with a line of column names and as many cells in each line")
    return [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]


def _line(values: Sequence[Any]) -> str:
    page = io.StringIO()
    # With both in the line's end, both are quoted in a cell; the module would leave "\\r" to break the line.
    csv.writer(page, lineterminator="\r\n").writerow(map(_shown, values))
    return page.getvalue()[:-2]


def _shown(value: Any) -> str:
    text = "" if value is None else str(value)
    return f"'{text}" if _is_formula(text) else text


def _meant(cell: str) -> str:
    return cell[1:] if cell[:1] == "'" and _is_formula(cell[1:]) else cell


def _is_formula(text: str) -> bool:
    return bool(_FORMULA.match(text)) and not _NUMBER.fullmatch(text)
