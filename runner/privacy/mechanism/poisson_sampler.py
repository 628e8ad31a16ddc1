"""Secret Poisson sampling: which examples make up the logical batch of a step."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import torch

from runner.errors import RequestError
from runner.privacy.mechanism.key import SecretKey
from runner.privacy.mechanism.keystream import Keystream

_COARSE_BITS = 16
_FINE_BITS = 64


class PoissonSampler:
    """Batches in which every example is present independently with probability ``rate``.

    Amplification by sampling (Abadi et al. 2016; Mironov et al. 2019) presumes that nobody knows who was in a batch,
    hence the randomness comes from the secret key and not from the run's seed.

    Every example compares an 80-bit number with the threshold ``ceil(rate * 2^80)``.  The first 16 bits decide, unless
    they equal the threshold's; only then, for one example in 65,536, are 64 further bits drawn.  The probability of
    presence is ``rate`` exactly for every float64 rate >= 2^-27 and within 2^-80 of it below.
    """

    def __init__(self, n: int, rate: float, key: SecretKey) -> None:
        """``n`` examples, each present with probability ``rate`` in (0, 1].

        Raises:
            RequestError: ``rate`` is not a probability above 0.
        """
        if not 0.0 < rate <= 1.0:
            raise RequestError("data.batch_size", f"a sampling rate of {rate:g}", "a rate in (0, 1]: batch <= examples")
        self.n = n
        self.rate = rate
        self._key = key.derive("poisson sampling")
        numerator = Fraction(rate) * (1 << (_COARSE_BITS + _FINE_BITS))
        self._coarse, self._fine = divmod(-(-numerator.numerator // numerator.denominator), 1 << _FINE_BITS)

    def rows(self, step: int) -> torch.Tensor:
        """Positions of the examples of logical batch ``step``: int64 CPU [m], ascending, m from 0 to n.

        A pure function of (key, step).
        """
        if self.rate == 1.0:
            return torch.arange(self.n)
        stream = Keystream(self._key, step)
        coarse = stream.take(self.n, "<u2")
        present = coarse < self._coarse
        undecided = np.flatnonzero(coarse == self._coarse)
        present[undecided] = stream.take(len(undecided), "<u8") < np.uint64(self._fine)
        return torch.from_numpy(np.flatnonzero(present))
