"""SIGTERM and SIGINT ask the loop to finish its step, save and end with exit code 75; a second one ends at once."""

from __future__ import annotations

import os
import signal
from types import FrameType, TracebackType

WATCHED = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """While entered, turns the first SIGTERM or SIGINT into ``pending`` instead of an exception."""

    def __init__(self) -> None:
        self.pending: signal.Signals | None = None
        self._previous: dict[signal.Signals, object] = {}

    def __enter__(self) -> StopRequest:
        for number in WATCHED:
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.pending is not None:
            # The user insists: no more Python, nothing half-written can be made worse (writes are atomic).
            os._exit(128 + number)
        self.pending = signal.Signals(number)
