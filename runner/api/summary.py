"""What a run or a sweep looks like at a prompt and in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape


def text_table(title: str, rows: Sequence[tuple[str, str]]) -> str:
    """A line of title and one for each name and value, aligned."""
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join([title, *(f"  {name:<{width}}  {value}" for name, value in rows)])


def html_table(title: str, rows: Sequence[tuple[str, str]]) -> str:
    """The same as HTML, in the colours of the page that it stands in."""
    cells = "".join(
        f'<tr><td style="text-align:left;opacity:.65">{escape(name)}</td>'
        f'<td style="text-align:left">{escape(value)}</td></tr>'
        for name, value in rows
    )
    return f"<div><strong>{escape(title)}</strong><table>{cells}</table></div>"
