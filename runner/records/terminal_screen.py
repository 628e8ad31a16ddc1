"""Lines that stay and, below them, what renews itself, on a terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable

from rich.console import Console, RenderableType
from rich.live import Live

from runner.records.frame_thread import FrameThread
from runner.records.line_wrapping import wrapped

_FRAME_SECONDS = 0.2
"""Between two frames; tests/records/frame_cost.py measures what one costs."""


class TerminalScreen:
    """The terminal that reads standard error."""

    def __init__(self) -> None:
        """Write to the standard error of this moment."""
        self._terminal = Console(stderr=True, highlight=False)
        self._live: Live | None = None
        self._frames = FrameThread(self._show, _FRAME_SECONDS)

    @property
    def width(self) -> int:
        """Columns of the terminal now."""
        return self._terminal.width

    def print(self, text: str, style: str = "") -> None:
        """Leave a line, wrapped between words."""
        with contextlib.suppress(OSError):
            for line in wrapped(text, self.width):
                self._terminal.print(line, style=style, markup=False, soft_wrap=True)

    def draw(self, renderable: RenderableType) -> None:
        """Draw below the lines."""
        self._frames.pause()
        self._show(renderable)

    def animate(self, frame: Callable[[], RenderableType]) -> None:
        """Draw frames below the lines."""
        self._frames.start(frame)

    def close(self) -> None:
        """Remove what was drawn; again is allowed."""
        self._frames.stop()
        with contextlib.suppress(OSError):
            if self._live is not None:
                self._live.stop()
                self._live = None

    def _show(self, renderable: RenderableType) -> None:
        with contextlib.suppress(OSError):
            if self._live is None:
                self._live = self._start()
            self._live.update(renderable, refresh=True)

    def _start(self) -> Live:
        # auto_refresh would render a table again that nothing has changed, and show the traceback of a lost terminal
        live = Live(
            console=self._terminal,
            auto_refresh=False,
            transient=True,
            redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
        )
        live.start()
        self._terminal.show_cursor(True)  # A killed process would leave the user's terminal without one.
        return live
