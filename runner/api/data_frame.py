"""Records as a data frame of pandas, which is no dependency of a run."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from runner.errors import RequestError

if TYPE_CHECKING:
    import pandas as pd

_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)", re.ASCII)


def data_frame(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> pd.DataFrame:
    """A row each of ``rows``; ``columns`` are those that stand first, and are there if there is no row.

    Raises:
        RequestError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise RequestError(
            "pandas", f"nothing ({error})", "pip install 'recipe-runner[pandas]', for data frames"
        ) from error
    found = dict.fromkeys([*columns, *(key for row in rows for key in row)])
    return pd.DataFrame(list(rows), columns=list(found))


def with_numbers(rows: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """``rows`` of text with numbers in the columns that hold nothing else, and NaN where there is no text."""
    columns = {key: [row[key] for row in rows if row[key]] for key in (rows[0] if rows else ())}
    kinds = {key: _kind(texts) for key, texts in columns.items()}
    return [{key: kinds[key](text) if text else math.nan for key, text in row.items()} for row in rows]


def _kind(texts: Sequence[str]) -> Callable[[str], object]:
    """What ``texts`` are, all of them."""
    for kind, form in ((int, _WHOLE), (float, _NUMBER)):
        if texts and all(form.fullmatch(text) for text in texts):
            return kind
    return str
