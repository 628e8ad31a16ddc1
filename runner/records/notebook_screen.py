"""Lines that stay and, below them, what renews itself, in the output of a notebook's cell."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from typing import Any

from IPython.display import display
from rich.console import Console, RenderableType
from rich.text import Text

from runner.records.frame_thread import FrameThread

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
        self._frames = FrameThread(self._draw, _FRAME_SECONDS)
        self._lock = threading.RLock()

    @property
    def width(self) -> int:
        """Columns of a cell's output."""
        return _NOTEBOOK_WIDTH

    def print(self, text: str, style: str = "") -> None:
        """Leave a line."""
        with self._lock:
            self._lines.append((text, style))
            # an output that another thread begins may belong to no cell
            if self._page is not None or threading.current_thread() is threading.main_thread():
                self._show()

    def draw(self, renderable: RenderableType) -> None:
        """Draw below the lines."""
        self._frames.pause()
        self._draw(renderable)

    def animate(self, frame: Callable[[], RenderableType]) -> None:
        """Draw frames below the lines."""
        self._frames.start(frame)

    def close(self) -> None:
        """Remove what was drawn; again is allowed."""
        self._frames.stop()
        with self._lock:
            if self._drawn is not None:
                self._drawn = None
                self._show()

    def _draw(self, renderable: RenderableType) -> None:
        with self._lock:
            self._drawn = renderable
            self._show()

    def _show(self) -> None:
        data = self._contents()
        if self._page is None:
            self._page = display(data, raw=True, display_id=True)
        else:
            self._page.update(data, raw=True)

    def _contents(self) -> dict[str, str]:
        """The output as text and as HTML; nothing at all, which takes no room, where there is nothing to show."""
        if not self._lines and self._drawn is None:
            return {}
        paper = Console(file=io.StringIO(), record=True, width=self.width, force_jupyter=False)
        for text, style in self._lines:
            paper.print(Text(text, style), highlight=False, soft_wrap=True)
        if self._drawn is not None:
            paper.print(self._drawn)
        return {
            "text/plain": paper.export_text(clear=False).rstrip("\n"),
            "text/html": paper.export_html(inline_styles=True, code_format=_PAGE),
        }
