"""The secret behind noise and sampling: 32 bytes that the operating system gives and no record ever shows."""

from __future__ import annotations

import hashlib
import secrets
from typing import Self

from runner.disk.core_dumps import disable_core_dumps

KEY_BYTES = 32


class SecretKey:
    """A 256-bit key from which every secret random stream of a private run is derived.

    Differential privacy holds against someone who sees the released model, not against someone who also knows the
    noise or the batches.  The key therefore never comes from the logged seed; it lives in memory and in the
    checkpoint only, and ``repr`` does not show it.  A process that holds one leaves no core dump.
    """

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        """Restores a key from the 32 bytes of ``bytes(key)``, as a checkpoint keeps them."""
        if len(secret) != KEY_BYTES:
            raise ValueError(f"a secret key has {KEY_BYTES} bytes, got {len(secret)}")
        disable_core_dumps()
        self._secret = bytes(secret)

    @classmethod
    def from_system(cls) -> Self:
        """A fresh key from the operating system's cryptographic generator."""
        return cls(secrets.token_bytes(KEY_BYTES))

    @classmethod
    def from_unsafe_seed(cls, seed: int) -> Self:
        """A key that anyone who knows ``seed`` can compute: for tests; a run that uses it is not private."""
        key = cls.__new__(cls)  # no secret, hence no reason to withhold a core dump
        key._secret = hashlib.blake2b(f"unsafe seed {seed}".encode(), digest_size=KEY_BYTES).digest()
        return key

    def derive(self, purpose: str) -> bytes:
        """32 bytes for one purpose: keyed BLAKE2b (RFC 7693), a pseudorandom function of the purpose's name.

        Keys of different purposes tell nothing about each other or about this key.
        """
        return hashlib.blake2b(purpose.encode(), key=self._secret, digest_size=KEY_BYTES).digest()

    def __bytes__(self) -> bytes:
        return self._secret

    def __repr__(self) -> str:
        return "SecretKey(hidden)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretKey) and secrets.compare_digest(self._secret, other._secret)

    __hash__ = None  # type: ignore[assignment]
