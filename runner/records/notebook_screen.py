"""Lines that stay and, below them, what renews itself, in the output of a notebook's cell."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from typing import Any

from IPython.display import display
from rich.console import Console, RenderableType
from rich.text import Text

_NOTEBOOK_WIDTH = 110
"""Columns of text in the output of a cell."""
_FRAME_SECONDS = 0.25
_PAGE = '<pre style="font-family:monospace;line-height:1.3;white-space:pre;overflow-x:auto;margin:0">{code}</pre>'


class NotebookScreen:
    """One output of a notebook's cell, which is replaced as a whole: notebooks keep no position in an output."""

    def __init__(self) -> None:
        """Nothing is shown yet."""
        self._page: Any = None
        self._lines: list[tuple[str, str]] = []
        self._drawn: RenderableType | None = None
        self._frame: Callable[[], RenderableType] | None = None
        self._next_frame = 0.0
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
        self._frame, self._drawn = None, renderable
        self._show()

    def animate(self, frame: Callable[[], RenderableType]) -> None:
        """Draw a frame below the lines, and others by ``tick``: what a thread displays belongs to no cell."""
        self._frame = frame
        self._draw_frame(frame)

    def tick(self) -> None:
        """Draw the next frame where it is due."""
        if self._frame is not None and time.monotonic() >= self._next_frame:
            self._draw_frame(self._frame)

    def _draw_frame(self, frame: Callable[[], RenderableType]) -> None:
        self._drawn = frame()
        self._show()
        self._next_frame = time.monotonic() + _FRAME_SECONDS

    def close(self) -> None:
        """Remove what was drawn; again is allowed."""
        self._frame = None
        if self._drawn is not None:
            self._drawn = None
            self._show()

    def _show(self) -> None:
        paper = Console(file=io.StringIO(), record=True, width=self.width, force_jupyter=False)
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
