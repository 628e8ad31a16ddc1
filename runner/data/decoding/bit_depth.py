"""Conversion of pixel values of more than 8 bits to bytes, by the file's stated range or the user's.

Nothing is scaled by the values that an image happens to hold: a dark image has to stay dark.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FULL_16 = 65535

UNSTATED_BELOW = 2**14
"""Values of 16 bits that end below this, in a file that states no other range, are most often those of a camera of 10,
12 or 14 bits, which would come out dark to black, and may be those of a dark picture."""


_AT_A_TIME = 2**20
"""Values of a large image that are changed at a time, so that what is in between stays small."""


class NoRangeError(Exception):
    """Values of which nobody has said what is black and what is white; the message says which."""

    def __init__(self, held: str, asked: str) -> None:
        """``held`` are the values, ``asked`` an example of ``data.value_range``."""
        self.asked = asked
        super().__init__(held)


@dataclass(frozen=True, kw_only=True)
class Stated:
    """What a file says of its values."""

    bits: int | None = None
    """Bits that count in each value; None for all of its type."""
    low: float | None = None
    high: float | None = None
    """Smallest and largest value that its samples may have."""
    whole_type: bool = False
    """Whether the format spreads the values over the whole of their type, whatever the bits."""
    inverted: bool = False
    """Whether 0 is white."""


def to_bytes(values: NDArray[Any], stated: Stated, value_range: tuple[float, float] | None) -> NDArray[np.uint8]:
    """Values ``[H, ...]`` of any type as uint8: black to 0 and white to 255, to the nearest.

    Args:
        values: Samples as they are stored.
        stated: What the file says of them.
        value_range: Black and white as the user says, which counts for all but unsigned 8 bits; what is beyond is cut
            off.

    Raises:
        NoRangeError: Neither says what black and white are, or the values are beyond what is stated.
        ValueError: Values are not finite.
    """
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if values.dtype == bool:
        pixels = values.astype(np.uint8) * np.uint8(255)
    elif values.dtype == np.uint8:
        pixels = values
    else:
        low, high = value_range or _range_of(values, stated)
        pixels = np.empty(values.shape, dtype=np.uint8)
        few = max(1, _AT_A_TIME // max(1, values[0].size))
        for top in range(0, len(values), few):
            pixels[top : top + few] = _scaled(values[top : top + few], low, high, stated)
    return 255 - pixels if stated.inverted else pixels


def _scaled(values: NDArray[Any], low: float, high: float, stated: Stated) -> NDArray[np.uint8]:
    if values.dtype == np.uint16 and (low, high) == (0, FULL_16):
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    wide = values.astype(np.float64)
    if not np.isfinite(wide).all():
        raise ValueError(f"{_named(values, stated)} that are not finite (NaN or infinite)")
    return np.rint((np.clip(wide, low, high) - low) * (255 / (high - low))).astype(np.uint8)


def _range_of(values: NDArray[Any], stated: Stated) -> tuple[float, float]:
    """What the file says that black and white are."""
    low, high = values.min().item(), values.max().item()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"{_named(values, stated)} that are not finite (NaN or infinite)")
    held = f"{_named(values, stated)} from {low:.6g} to {high:.6g}"
    if stated.high is not None and stated.high > (least := stated.low or 0):
        if low < least or high > stated.high:
            raise NoRangeError(
                f"{held}, beyond the {least:g} to {stated.high:g} that the file states", _example(low, high)
            )
        # Many programs note the largest value of this one image there, which is no range of all images.
        if not (stated.high == high and values.dtype.kind == "u" and not _is_depth(stated.high)):
            return least, stated.high
        held += ", which the file states as its largest"
    elif values.dtype == np.uint16 and (stated.whole_type or high == 0):
        return 0, FULL_16
    elif values.dtype == np.uint16 and stated.bits is not None and stated.bits < 16 and high < 2**stated.bits:
        return 0, 2**stated.bits - 1
    elif values.dtype == np.uint16 and high >= UNSTATED_BELOW:
        return 0, FULL_16
    raise NoRangeError(held, _example(low, high))


def _is_depth(high: float) -> bool:
    """Whether ``high`` is the largest value of a whole number of bits, 8 or more."""
    return high in {2**bits - 1 for bits in range(8, 33)}


def _named(values: NDArray[Any], stated: Stated) -> str:
    kind = {"u": "unsigned ", "i": "signed "}.get(values.dtype.kind, "floating-point ")
    return f"{kind}{stated.bits or 8 * values.dtype.itemsize}-bit values"


def _example(low: float, high: float) -> str:
    if low < 0:
        return f"[{low:.6g},{high:.6g}]"
    if high <= 1:
        return "[0,1]"
    usual = next((2**bits - 1 for bits in (8, 10, 12, 14, 16, 32) if high < 2**bits), None)
    return f"[0,{high:.6g}]" if usual is None else f"[0,{usual}]"


def left_justified(values: NDArray[Any], bits: int) -> bool:
    """Whether 16-bit ``values`` are samples of ``bits`` bits spread over 16, as PNG has them (section 12.4).

    The bits below are zeros, or repeat the sample's own from the top.
    """
    shift = 16 - bits
    wide = values.astype(np.uint32)
    sample = wide >> shift
    filled = (sample << shift) | (sample >> max(0, bits - shift))
    return bool(np.all((wide == sample << shift) | (wide == filled)))
