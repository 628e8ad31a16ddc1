"""MinHash sketches that estimate how many images two data sets share.

A copy of the data with one file more is another data set, with a ledger of its own.  Beside each ledger lie the
smallest hashes of its images (a bottom-k sketch: Cohen and Kaplan 2007): of two sets whose images are the same, the
smallest are the same, so that common images show whichever set is larger.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

KEPT = 4096
"""Hashes of a sketch.  Of sets up to this size all images are compared, of larger ones a sample: one image in common is
seen for certain in the former alone."""
_SPACE = 2**64


@dataclass(frozen=True)
class Sketch:
    """The images of a data set."""

    images: int
    """Different ones."""
    hashes: tuple[int, ...]
    """The ``KEPT`` smallest of their hashes, 64 bits each, rising."""

    def as_plain(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {"images": self.images, "hashes": [f"{one:016x}" for one in self.hashes]}

    @classmethod
    def from_plain(cls, found: object) -> Sketch:
        """From ``as_plain``.

        Raises:
            ValueError: it is something else.
        """
        try:
            return cls(int(found["images"]), tuple(int(one, 16) for one in found["hashes"]))  # type: ignore[index]
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a sketch of a data set ({error})") from error


def sketch_of(digests: Iterable[bytes]) -> Sketch:
    """The sketch of images with these SHA-256 digests, which do not stand in it."""
    hashes = {int.from_bytes(hashlib.sha256(b"ledger " + digest).digest()[:8], "big") for digest in digests}
    return Sketch(len(hashes), tuple(sorted(hashes)[:KEPT]))


def shared(one: Sketch, other: Sketch) -> int:
    """About how many images both have; exactly, where one of the two has at most ``KEPT`` of them and so has the other.

    At least 1 where any hash is in both sketches.
    """
    below = min(_known_below(one), _known_below(other))
    found = len({hash_ for hash_ in one.hashes if hash_ < below} & set(other.hashes))
    return min(round(found * _SPACE / below), one.images, other.images)


def _known_below(sketch: Sketch) -> int:
    """All hashes below this are in the sketch."""
    return _SPACE if len(sketch.hashes) < KEPT else sketch.hashes[-1] + 1
