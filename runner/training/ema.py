"""An exponential moving average of the weights, which often test better than the last ones under noisy gradients.

Under DP the average is computed from what was released already, so it costs no privacy (De et al. 2022, "Unlocking
High-Accuracy Differentially Private Image Classification through Scale", section 3.4).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class WeightAverage:
    """average <- d_t average + (1 - d_t) weights after update t (from 0), d_t = min(decay, (1 + t) / (10 + t)).

    The smaller d_t of the start corrects the bias towards the initial weights, which a constant decay would keep for
    1 / (1 - decay) updates: after the first update they weigh 0.1, and ever less.  It needs no state but the update's
    number.

    Buffers, such as the statistics of BatchNorm, are not averaged: they are running means already.  Every process has
    the same weights and computes the same average.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        """``parameters`` are those that training changes; ``decay`` is in [0, 1), and 0 averages nothing."""
        self._parameters = list(parameters)
        self._decay = decay
        self._average: list[Tensor] = [parameter.detach().clone() for parameter in self._parameters]

    def update(self, step: int) -> None:
        """Take in the weights that update ``step`` (from 0) left.

        An update that float16 skipped counts as one that changed nothing: the average moves on towards the same
        weights, and whether a step was skipped need not be asked of the device.
        """
        move = get_ema_multi_avg_fn(min(self._decay, (1.0 + step) / (10.0 + step)))
        move(self._average, [parameter.detach() for parameter in self._parameters], step)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model holds the average inside this context, and its own weights, bit for bit, after it."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def tensors(self) -> list[Tensor]:
        """The average of each parameter, in the order given; not copies."""
        return self._average

    def load(self, average: Sequence[Tensor]) -> None:
        """Take up the average of a checkpoint."""
        for held, loaded in zip(self._average, average, strict=True):
            held.copy_(loaded)

    def _exchange(self) -> None:
        for parameter, average in zip(self._parameters, self._average, strict=True):
            weights = parameter.detach()
            own = weights.clone()
            weights.copy_(average)
            average.copy_(own)
