"""Cryptographic random bytes as a pure function of (key, step)."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

# Encrypting zeros yields the raw keystream; 256 KiB at a time stays in a core's second-level cache.
_CHUNK_BYTES = 1 << 18
_ZEROS = bytes(_CHUNK_BYTES)


class Keystream:
    """The ChaCha20 keystream (RFC 8439) of a 256-bit key, with the step as its nonce.

    Two steps never share bytes, and a step can be replayed from (key, step) alone.  One step may read up to 256 GiB.
    """

    def __init__(self, key: bytes, step: int) -> None:
        """``key`` has 32 bytes; ``step`` is in [0, 2^64)."""
        # cryptography loads OpenSSL, which runs without privacy have no use for.

        # The library's 16-byte nonce starts with the block counter; the step fills the last eight bytes.
        self._stream: Any = Cipher(ChaCha20(key, struct.pack("<QQ", 0, step)), mode=None).encryptor()

    def fill(self, out: npt.NDArray[Any]) -> None:
        """Overwrites the contiguous array ``out`` with the next ``out.nbytes`` bytes, read as little-endian words."""
        target = out.view(np.uint8).data
        zeros = memoryview(_ZEROS)
        for start in range(0, len(target), _CHUNK_BYTES):
            part = target[start : start + _CHUNK_BYTES]
            self._stream.update_into(zeros[: len(part)], part)

    def take(self, count: int, dtype: str) -> npt.NDArray[Any]:
        """The next ``count`` words of ``dtype`` (``"<u2"``, ``"<u4"``, ``"<u8"``)."""
        words = np.empty(count, dtype)
        if count:
            self.fill(words)
        return words
