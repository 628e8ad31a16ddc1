"""Lines that stay and, below them, what renews itself, on a terminal."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable

from rich.console import Console, RenderableType
from rich.live import Live

from runner.records.line_wrapping import wrapped

_FRAME_SECONDS = 0.2
"""Between two frames: drawing one takes a thousandth of a second of the interpreter's time."""


class TerminalScreen:
    """The terminal that reads standard error."""

    def __init__(self) -> None:
        """Write to the standard error of this moment."""
        self._terminal = Console(stderr=True, highlight=False)
        self._live: Live | None = None
        self._frame: Callable[[], RenderableType] | None = None
        self._closed = threading.Event()
        self._animator: threading.Thread | None = None

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
        self._frame = None
        self._show(renderable)

    def animate(self, frame: Callable[[], RenderableType]) -> None:
        """Draw frames below the lines, from a thread: the process may be busy in a library for long."""
        self._show(frame())
        self._frame = frame
        if self._animator is None:
            self._animator = threading.Thread(target=self._draw_frames, name="progress line", daemon=True)
            self._animator.start()

    def tick(self) -> None:
        """Nothing is left to do."""

    def close(self) -> None:
        """Remove what was drawn; again is allowed."""
        self._frame = None
        if self._animator is not None:
            self._closed.set()
            self._animator.join()
            self._animator = None
            self._closed.clear()
        with contextlib.suppress(OSError):
            if self._live is not None:
                self._live.stop()
                self._live = None

    def _draw_frames(self) -> None:
        while not self._closed.wait(_FRAME_SECONDS):
            if (frame := self._frame) is not None:
                self._show(frame())

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
