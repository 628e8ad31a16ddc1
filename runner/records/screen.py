"""Lines that stay and, below them, what renews itself: on a terminal, and in the output of a notebook's cell."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
from typing import TYPE_CHECKING, Any, Protocol

from runner.environment.text_encoding import encodable_text

if TYPE_CHECKING:
    from rich.console import Console as Terminal
    from rich.console import RenderableType
    from rich.live import Live

_NOTEBOOK_WIDTH = 110
"""Columns of text in the output of a cell."""
_PAGE = '<pre style="line-height:1.3;white-space:pre;overflow-x:auto;margin:0">{code}</pre>'


class Screen(Protocol):
    """Where a person sees how things go on.  The reader may go away, as when a connection drops."""

    seconds: float
    """The least time between two drawings that are worth the reader's while."""

    @property
    def width(self) -> int:
        """Columns."""

    def print(self, text: str, style: str = "") -> None:
        """Leave a line above what is drawn; may be called from any thread."""

    def draw(self, renderable: RenderableType) -> None:
        """Put ``renderable`` in the place of what was drawn before."""

    def close(self) -> None:
        """Remove what was drawn; the lines stay."""


def find_screen() -> Screen | None:
    """The screen of standard error, or of the notebook whose cell is executed; None where nobody would see it."""
    if _in_notebook():
        return NotebookScreen()
    stderr = sys.stderr
    if stderr is None or not stderr.isatty() or os.environ.get("TERM") == "dumb":
        return None
    return TerminalScreen() if encodable_text("ε━", stderr.encoding or "utf-8") == "ε━" else None


class TerminalScreen:
    """The terminal that reads standard error."""

    seconds = 0.1

    def __init__(self) -> None:
        """Write to the standard error of this moment."""
        from rich.console import Console

        self._terminal = Console(stderr=True, highlight=False)
        self._live: Live | None = None

    @property
    def width(self) -> int:
        """Columns of the terminal now."""
        return self._terminal.width

    def print(self, text: str, style: str = "") -> None:
        """Leave a line."""
        with contextlib.suppress(OSError):
            self._terminal.print(text, style=style, markup=False)

    def draw(self, renderable: RenderableType) -> None:
        """Draw below the lines."""
        with contextlib.suppress(OSError):
            if self._live is None:
                self._live = self._start()
            self._live.update(renderable, refresh=True)

    def close(self) -> None:
        """Remove what was drawn; again is allowed."""
        with contextlib.suppress(OSError):
            if self._live is not None:
                self._live.stop()
                self._live = None

    def _start(self) -> Live:
        from rich.live import Live

        # Without a thread of its own (auto_refresh): who has something new to show draws it.
        live = Live(
            console=self._terminal,
            auto_refresh=False,
            transient=True,
            redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
        )
        live.start()
        self._terminal.show_cursor(True)  # A killed process would leave the user's terminal without one.
        return live


class NotebookScreen:
    """One output of a notebook's cell, which is replaced as a whole: notebooks keep no position in an output."""

    seconds = 0.25

    def __init__(self) -> None:
        """Nothing is shown yet."""
        self._page: Any = None
        self._lines: list[tuple[str, str]] = []
        self._drawn: RenderableType | None = None
        self._lock = threading.Lock()

    @property
    def width(self) -> int:
        """Columns of a cell's output."""
        return _NOTEBOOK_WIDTH

    def print(self, text: str, style: str = "") -> None:
        """Leave a line."""
        with self._lock:
            self._lines.append((text, style))
        if threading.current_thread() is threading.main_thread():  # what others display belongs to no cell
            self._show()

    def draw(self, renderable: RenderableType) -> None:
        """Draw below the lines."""
        self._drawn = renderable
        self._show()

    def close(self) -> None:
        """Remove what was drawn; again is allowed."""
        if self._drawn is not None:
            self._drawn = None
            self._show()

    def _show(self) -> None:
        from IPython.display import display
        from rich.console import Console
        from rich.text import Text

        paper: Terminal = Console(file=io.StringIO(), record=True, width=self.width, force_jupyter=False)
        with self._lock:
            lines = list(self._lines)
        for text, style in lines:
            paper.print(Text(text, style), highlight=False, soft_wrap=True)
        if self._drawn is not None:
            paper.print(self._drawn)
        data = {
            "text/plain": paper.export_text(clear=False).rstrip("\n"),
            "text/html": paper.export_html(inline_styles=True, code_format=_PAGE),
        }
        if self._page is None:
            self._page = display(data, raw=True, display_id=True)
        else:
            self._page.update(data, raw=True)


def _in_notebook() -> bool:
    """Whether this process is a kernel of Jupyter's that executes a cell."""
    if "ipykernel" not in sys.modules:
        return False
    from IPython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None
