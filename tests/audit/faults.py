"""Private trainers that are wrong in one way each, planted from outside: the product has no switch for any of them."""

from contextlib import contextmanager

import pytest
import torch

from runner.privacy.noise import NoiseSource
from runner.privacy.poisson import PoissonStream
from runner.privacy.private_rule import PrivateRule
from runner.training import private_parts
from runner.training.streams import ShuffledStream


def _noise(change):
    """The noise source whose every draw goes through ``change``."""

    def plant(patch):
        normal = NoiseSource.normal
        patch.setattr(NoiseSource, "normal", lambda self, step, *args: change(normal, self, step, *args))

    return plant


def _divided(patch):
    """Noise that is right for the sum over a batch, and divided by the batch once more."""

    class Rule(PrivateRule):
        def __init__(self, *args, noise_multiplier, expected_batch, **settings):
            settings["noise_multiplier"] = noise_multiplier / expected_batch
            super().__init__(*args, expected_batch=expected_batch, **settings)

    patch.setattr(private_parts, "PrivateRule", Rule)


def _clipped_at(factor):
    """Clips each example ``factor`` times further out than the noise was made for."""

    def plant(patch):
        class Rule(PrivateRule):
            def __init__(self, *args, max_grad_norm, noise_multiplier, **settings):
                super().__init__(
                    *args, max_grad_norm=max_grad_norm * factor, noise_multiplier=noise_multiplier / factor, **settings
                )

        patch.setattr(private_parts, "PrivateRule", Rule)

    return plant


def _mean_clipped(patch):
    """Clips the mean over the batch, as ``clip_grad_norm_`` does, and then adds the right noise."""

    class Rule(PrivateRule):
        def __init__(self, model, *, noise, max_grad_norm, noise_multiplier, expected_batch, **settings):
            self._source = noise
            self._bound = max_grad_norm
            self._deviation = noise_multiplier * max_grad_norm / expected_batch
            self._model = model
            super().__init__(
                model,
                noise=noise,
                max_grad_norm=1e6 * max_grad_norm,
                noise_multiplier=0.0,
                expected_batch=expected_batch,
                **settings,
            )

        def release(self, step):
            norm = super().release(step)
            parameters = [p for p in self._model.parameters() if p.requires_grad]
            torch.nn.utils.clip_grad_norm_(parameters, self._bound)
            noise = self._source.normal(step, sum(p.numel() for p in parameters), torch.device("cpu"))
            for parameter, part in zip(parameters, noise.split([p.numel() for p in parameters]), strict=True):
                parameter.grad.add_(part.view_as(parameter), alpha=self._deviation)
            return norm

    patch.setattr(private_parts, "PrivateRule", Rule)


def _shuffled(patch):
    """Every example once an epoch in batches of a fixed size, accounted for as if it were Poisson sampling."""

    class Stream(PoissonStream):
        def __init__(self, n, rate, key):
            super().__init__(n, rate, key)
            self._order = ShuffledStream(n, round(n * rate), int.from_bytes(bytes(key)[:4], "little"))

        def rows(self, step):
            return self._order.rows(step)

    patch.setattr(private_parts, "PoissonStream", Stream)


FAULTS = {
    "none": lambda patch: None,
    "no noise": _noise(lambda normal, self, step, *args: torch.zeros_like(normal(self, step, *args))),
    "a tenth of the noise": _noise(lambda normal, self, step, *args: normal(self, step, *args) / 10),
    "noise divided by the batch": _divided,
    "no clipping": _clipped_at(1e6),
    "clipping of the batch mean": _mean_clipped,
    "the same noise at each step": _noise(lambda normal, self, step, *args: normal(self, 0, *args)),
    "shuffling accounted as Poisson": _shuffled,
}
"""The right trainer and the seven faults that the audit must catch."""

WEAK = {
    "clipping at 1.5 C": _clipped_at(1.5),
    "clipping at 2 C": _clipped_at(2.0),
    "clipping at 4 C": _clipped_at(4.0),
    "half of the noise": _noise(lambda normal, self, step, *args: normal(self, step, *args) / 2),
    "noise 2 % short": _noise(lambda normal, self, step, *args: normal(self, step, *args) * 0.98),
}
"""Weaker ones, which show how much the audit sees."""


@contextmanager
def planted(fault):
    with pytest.MonkeyPatch.context() as patch:
        (FAULTS | WEAK)[fault](patch)
        yield
