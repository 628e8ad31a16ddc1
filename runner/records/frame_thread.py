"""A thread that draws frames as time goes on: the process itself may be busy in a library for long."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType


class FrameThread:
    """Shows what a function returns, again and again, until it is stopped; for one thread to use."""

    def __init__(self, show: Callable[[RenderableType], None], seconds: float) -> None:
        """``show`` takes each frame, every ``seconds``."""
        self._show, self._seconds = show, seconds
        self._frame: Callable[[], RenderableType] | None = None
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, frame: Callable[[], RenderableType]) -> None:
        """Show what ``frame`` returns from now on, in the place of an earlier one: at once, and then by the thread."""
        self._show(frame())
        self._frame = frame
        if self._thread is None:
            # a notebook finds the cell that an output belongs to in the context
            context = contextvars.copy_context()
            self._thread = threading.Thread(target=context.run, args=(self._run,), name="progress line", daemon=True)
            self._thread.start()

    def pause(self) -> None:
        """Show no further frame, apart from one that is being made."""
        self._frame = None

    def stop(self) -> None:
        """End the thread; nothing is shown once this has returned.  Again is allowed."""
        self._frame = None
        if self._thread is not None:
            self._stopped.set()
            self._thread.join()
            self._thread = None
            self._stopped.clear()

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds):
            if (frame := self._frame) is not None:
                self._show(frame())
