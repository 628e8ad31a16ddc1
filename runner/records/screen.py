"""Lines that stay and, below them, what renews itself: on a terminal, and in the output of a notebook's cell."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

from runner.environment.text_encoding import encodable_text
from runner.records.progress import Waiting

if TYPE_CHECKING:
    from rich.console import RenderableType


class Screen(Protocol):
    """Where a person sees how things go on.  The reader may go away, as when a connection drops."""

    @property
    def width(self) -> int:
        """Columns."""

    def print(self, text: str, style: str = "") -> None:
        """Leave a line above what is drawn; may be called from any thread."""

    def draw(self, renderable: RenderableType) -> None:
        """Put ``renderable`` in the place of what was drawn before."""

    def animate(self, frame: Callable[[], RenderableType]) -> None:
        """Draw what ``frame`` returns, at once and then as time goes on, until something else is drawn.

        ``frame`` may be called from any thread.
        """

    def close(self) -> None:
        """Remove what was drawn; the lines stay."""


def find_screen() -> Screen | None:
    """The screen of standard error, or of the notebook whose cell is executed; None where nobody would see it."""
    if _in_notebook():
        from runner.records.notebook_screen import NotebookScreen

        return NotebookScreen()
    return _find_terminal()


@contextlib.contextmanager
def shown_on_terminal(what: str) -> Iterator[None]:
    """Show on the terminal, if there is one, that the process does ``what`` meanwhile."""
    if (terminal := None if _in_notebook() else _find_terminal()) is None:
        yield
        return
    from runner.records.run_renderables import waiting_line

    waiting = Waiting(what)
    terminal.animate(lambda: waiting_line(waiting))
    try:
        yield
    finally:
        terminal.close()


def _find_terminal() -> Screen | None:
    stderr = sys.stderr
    if stderr is None or not stderr.isatty() or os.environ.get("TERM") == "dumb":
        return None
    if encodable_text("ε━", stderr.encoding or "utf-8") != "ε━":
        return None
    from runner.records.terminal_screen import TerminalScreen

    return TerminalScreen()


def _in_notebook() -> bool:
    """Whether this process is a kernel of Jupyter's that executes a cell."""
    if "ipykernel" not in sys.modules:
        return False
    return getattr(sys.modules["IPython"].get_ipython(), "kernel", None) is not None
