"""The secret random numbers of a private run (augmentation, dropout), bound to the example whatever the batch.

Clipping bounds what an example adds to the sum *given* its draws.  So the sums of a batch with an example and without
it differ by at most C only if the draws of all other examples stay as they are.  Numbers dealt out by the position in
the batch do not stay: one example more shifts all later ones to other crops and masks.  And numbers that follow from
the public seed let an attacker compute what the shift has done.  Hence a pseudorandom function of the secret key at
(step, row, copy), where the row is the example's place in the training set.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from runner.privacy.mechanism.key import SecretKey
from runner.privacy.mechanism.random_layers import LayerKeys


class ExampleRng:
    """The draws of copy k of the example at row r in update t: keyed BLAKE2b (RFC 7693) at (t, r, k).

    Numbers that do not fit into one hash come from more of them, at (t, r, k, 1) and so on.
    So they are the same in whichever micro-batch, process or session the example is computed; nobody without the key
    can tell them from new ones; and over data sets that differ in one example, where all later rows are others, the
    mechanism has the same distribution as if the rows had stayed (docs/privacy.md).
    """

    def __init__(self, key: SecretKey, model: nn.Module, *, copies: int, blocks: Sequence[int]) -> None:
        """For ``copies`` images of each example in ``model``, whose random layers were made to draw by example.

        ``blocks`` is how many numbers augmentation needs for an image, at most 16 in each; a block more leaves the
        numbers of those before it as they are.
        """
        self._images = key.derive("augmentation of examples")
        self._layers = key.derive("random layers")
        self._keys = LayerKeys.of(model)
        self._device = next(model.parameters()).device
        self._copies = copies
        self._blocks = tuple(blocks)

    def begin(self, step: int, rank: int) -> None:
        """Nothing: what is drawn depends on the example alone."""

    def images(self, step: int, rows: Tensor, *, rank: int, size: int) -> Tensor:
        """See ``runner.training.gradients.step_rng.StepRng``."""
        mine = rows[rank::size]
        drawn = [
            self._numbers(self._images, step, mine, "<u4", count, block) for block, count in enumerate(self._blocks)
        ]
        whole = (drawn[0] if len(drawn) == 1 else np.concatenate(drawn, axis=1)) >> np.uint32(8)
        # 24 bits: what float32 holds without ever rounding up to 1
        uniform = torch.from_numpy(whole.astype(np.float32) * np.float32(2**-24))
        return uniform.view(mine.numel(), self._copies, sum(self._blocks))

    def layers(self, step: int, rows: Tensor) -> None:
        """See ``runner.training.gradients.step_rng.StepRng``."""
        if self._keys is not None:
            keys = self._numbers(self._layers, step, rows, "<i8", 1)
            self._keys.set(torch.from_numpy(keys).view(-1).to(self._device))

    def _numbers(self, key: bytes, step: int, rows: Tensor, kind: str, count: int, block: int = 0) -> np.ndarray:
        """Words of ``kind`` [rows * copies, count]."""
        size = np.dtype(kind).itemsize * count
        suffix = struct.pack("<Q", block) if block else b""
        found = bytearray().join(
            hashlib.blake2b(struct.pack("<QQQ", step, row, copy) + suffix, key=key, digest_size=size).digest()
            for row in rows.tolist()
            for copy in range(self._copies)
        )
        return np.frombuffer(found, kind).reshape(-1, count)
