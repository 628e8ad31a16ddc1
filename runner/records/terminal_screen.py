"""Lines that stay and, below them, what renews itself, on a terminal."""

from __future__ import annotations

import contextlib
import sys

from rich.console import Console, RenderableType
from rich.live import Live


class TerminalScreen:
    """The terminal that reads standard error."""

    seconds = 0.1

    def __init__(self) -> None:
        """Write to the standard error of this moment."""
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
