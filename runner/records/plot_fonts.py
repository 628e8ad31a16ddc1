"""Fonts of pictures: names of classes, recipes and folders may be in any script."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from matplotlib import font_manager

_FIRST = "DejaVu Sans"
"""Comes with matplotlib."""
_OTHERS = (
    "Noto Sans",
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei"),
    *("Noto Sans Arabic", "Noto Sans Hebrew", "Noto Sans Devanagari", "Noto Sans Bengali", "Noto Sans Thai"),
    *("PingFang SC", "Hiragino Sans", "Apple SD Gothic Neo", "Arial Unicode MS"),
    *("Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "Segoe UI", "Nirmala UI"),
)
"""Usual fonts of other scripts, of Linux, macOS and Windows."""


@functools.cache
def families() -> tuple[str, ...]:
    """The installed families that letters are looked for in, in this order."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return (_FIRST, *(name for name in _OTHERS if name in installed))


def missing_letters(texts: Iterable[str]) -> str:
    """The letters of ``texts`` that no installed font has, each once: a picture shows boxes in their place."""
    letters = {letter for text in texts for letter in text if letter.isprintable()}
    for name in families():
        if not letters:
            break
        font = font_manager.get_font(font_manager.findfont(name, fallback_to_default=False))
        letters -= {letter for letter in letters if font.get_char_index(ord(letter))}
    return "".join(sorted(letters))


@contextmanager
def boxes_without_warning() -> Iterator[None]:
    """Draw boxes for letters without a font, without the warning that matplotlib has for each of them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from", category=UserWarning)
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support .* natively")
        yield
