"""Private trainers that are wrong in one way each, planted from outside: the product has no switch for any of them."""

import math
from contextlib import contextmanager

import pytest
import torch

from runner.config.schema import AugmentConfig
from runner.data import augment
from runner.privacy.independence.runtime_check import RuntimeMixingCheck
from runner.privacy.mechanism.example_rng import ExampleRng
from runner.privacy.mechanism.key import SecretKey
from runner.privacy.mechanism.noise import NoiseSource
from runner.privacy.mechanism.poisson_sampler import PoissonSampler
from runner.privacy.mechanism.private_rule import PrivateRule
from runner.training import parts
from runner.training.gradients import private_parts
from runner.training.gradients.batch_sampler import ShuffledSampler, fold_in


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

    class WrongSampler(PoissonSampler):
        def __init__(self, n, rate, key):
            super().__init__(n, rate, key)
            self._order = ShuffledSampler(n, round(n * rate), int.from_bytes(bytes(key)[:4], "little"))

        def rows(self, step):
            return self._order.rows(step)

    patch.setattr(private_parts, "PoissonSampler", WrongSampler)


def _sampler(change):
    """The sampler whose every batch is ``change(sampler, rows, step)``, rows being a function of the step."""

    def plant(patch):
        class WrongSampler(PoissonSampler):
            def rows(self, step):
                return change(self, super().rows, step)

        patch.setattr(private_parts, "PoissonSampler", WrongSampler)

    return plant


def _alternating_halves(patch):
    """Each half of the examples in every second step, at twice the rate."""

    class WrongSampler(PoissonSampler):
        def __init__(self, n, rate, key):
            super().__init__(n, min(1.0, 2 * rate), key)

        def rows(self, step):
            rows = super().rows(step)
            return rows[rows % 2 == step % 2]

    patch.setattr(private_parts, "PoissonSampler", WrongSampler)


def _fixed_size(sampler, rows, step):
    order = torch.randperm(
        sampler.n, generator=torch.Generator().manual_seed(hash((bytes(sampler._key), step)) % 2**63)
    )
    return order[: round(sampler.n * sampler.rate)].sort().values


def _first_tensors_only(noise, share=0.1):
    noise[int(len(noise) * share) :] = 0
    return noise


def correlated(rho):
    """Noise whose second half has the correlation ``rho`` with its first half."""

    def change(normal, self, step, *args):
        noise = normal(self, step, *args)
        half = len(noise) // 2
        noise[half : 2 * half] = rho * noise[:half] + math.sqrt(1 - rho**2) * noise[half : 2 * half]
        return noise

    return _noise(change)


def repeated(share):
    """A step in ``1 / share`` has the noise of the step before."""
    every = round(1 / share)
    return _noise(lambda normal, self, step, *args: normal(self, step - (step % every == every - 1), *args))


def scaled(factor):
    """``factor`` times the noise."""
    return _noise(lambda normal, self, step, *args: normal(self, step, *args) * factor)


def same_batches(share):
    """A step in ``1 / share`` has the batch of the step before."""
    every = round(1 / share)
    return _sampler(lambda sampler, rows, step: rows(step - (step % every == every - 1)))


def draws_by_position(patch, *, images=True, layers=True):
    """What was drawn until 2026-11-30: numbers by the position in the batch, from the seed that everybody knows."""
    every_column = AugmentConfig(flip=True, hue=0.1)

    def of_images(self, step, rows, *, rank, size):
        drawn = augment.draw(every_column, PUBLIC_SEED, step, rows.numel() * self._copies)
        return drawn.unflatten(0, (rows.numel(), self._copies))[rank::size]

    def of_layers(self, step, rows):
        if self._keys is not None:
            places = torch.arange(len(rows) * self._copies)
            self._keys.set((places + (fold_in(PUBLIC_SEED, step) >> 1)).to(self._device))

    if images:
        patch.setattr(ExampleRng, "images", of_images)
    if layers:
        patch.setattr(ExampleRng, "layers", of_layers)


def _public_noise(patch):
    class Source(NoiseSource):
        def __init__(self, key, **settings):
            super().__init__(SecretKey.from_unsafe_seed(PUBLIC_SEED), **settings)

    patch.setattr(private_parts, "NoiseSource", Source)


def _other_generator_after_a_resume(patch):
    keys = []

    class Source(NoiseSource):
        def __init__(self, key, *, secure, **settings):
            super().__init__(key, secure=secure if bytes(key) not in keys else not secure, **settings)
            keys.append(bytes(key))

    patch.setattr(private_parts, "NoiseSource", Source)


def _clipped_by_layer(patch):
    """Clips the gradient of each parameter by itself, so that all of them together pass C."""

    class Rule(PrivateRule):
        def add(self, images, labels):
            if len(labels) == 0:
                return super().add(images, labels)
            losses, hits, gradients = self._gradients(images, labels)
            for gradient, view in zip(gradients, self._views, strict=True):
                norms = gradient.norms().clamp(min=self._max_grad_norm)
                view += gradient.weighted_sum(self._max_grad_norm / norms, None)
            return losses.sum(), hits

    patch.setattr(private_parts, "PrivateRule", Rule)


def _clipped_by_copy(patch):
    """Clips each augmented copy of an example instead of their mean, and adds all of them up."""

    class Rule(PrivateRule):
        def __init__(self, *args, copies, **settings):
            super().__init__(*args, copies=1, **settings)
            self._copies = copies

        def add(self, images, labels):
            losses, hits = super().add(images, labels.repeat_interleave(self._copies))
            return losses, hits[:: self._copies]

    patch.setattr(private_parts, "PrivateRule", Rule)


def moved_further(factor):
    """The first example of each batch counts ``factor`` times."""

    def plant(patch):
        class Rule(PrivateRule):
            def begin(self, denominator):
                self._first = True
                super().begin(denominator)

            def add(self, images, labels):
                found = super().add(images, labels)
                if self._first and len(labels):
                    self._first = False
                    before = self.clipped_sum.clone()
                    super().add(images[: len(images) // len(labels)], labels[:1])
                    self.clipped_sum.copy_(before + (factor - 1) * (self.clipped_sum - before))
                return found

        patch.setattr(private_parts, "PrivateRule", Rule)

    return plant


class Centred(torch.nn.Module):
    """A model whose logits have their mean over the batch taken out, times ``share``."""

    def __init__(self, model, share):
        super().__init__()
        self.model = model
        self.share = share

    def forward(self, images):
        logits = self.model(images)
        return logits - self.share * logits.mean(0, keepdim=True)


class Remembering(torch.nn.Module):
    """A model that keeps the mean of the images it saw in a buffer, which is published with the weights."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, images):
        if self.training:
            self.seen = 0.9 * self.seen + 0.1 * images.detach().mean()
        return self.model(images)


def model_changed(change, *, unchecked=True):
    """``change(model)`` in the place of the model; nobody checks that examples stay apart."""

    def plant(patch):
        build = parts.build_model
        patch.setattr(parts, "build_model", lambda *args, **settings: change(build(*args, **settings)))
        if unchecked:
            patch.setattr(private_parts, "check_examples_independent", lambda *args, **settings: None)
            patch.setattr(RuntimeMixingCheck, "check", lambda *args: None)
            patch.setattr(RuntimeMixingCheck, "kept", lambda self: None)

    return plant


def _unnoised_step(patch):
    """The weights also take a small step along the clipped sum as it is."""

    class Rule(PrivateRule):
        def release(self, step):
            with torch.no_grad():
                for parameter, view in zip(self._parameters, self._views, strict=True):
                    parameter.add_(view, alpha=-1e-6)
            return super().release(step)

    patch.setattr(private_parts, "PrivateRule", Rule)


PUBLIC_SEED = 0

FAULTS = {
    "none": lambda patch: None,
    "no noise": _noise(lambda normal, self, step, *args: torch.zeros_like(normal(self, step, *args))),
    "a tenth of the noise": scaled(0.1),
    "noise divided by the batch": _divided,
    "no clipping": _clipped_at(1e6),
    "clipping of the batch mean": _mean_clipped,
    "the same noise at each step": _noise(lambda normal, self, step, *args: normal(self, 0, *args)),
    "shuffling accounted as Poisson": _shuffled,
}
"""The right trainer and the seven faults that the audit must catch."""

MORE = {
    "noise in the first tensors only": _noise(lambda normal, *args: _first_tensors_only(normal(*args))),
    "noise that two layers share": correlated(1.0),
    "the same noise every second step": repeated(0.5),
    "noise divided by two processes": scaled(0.5),
    "noise 10 % short": scaled(0.9),
    "noise of a public seed": _public_noise,
    "another generator after a resume": _other_generator_after_a_resume,
    "the same batch twice": _sampler(lambda sampler, rows, step: rows(step // 2)),
    "halves in turn at twice the rate": _alternating_halves,
    "batches in a cycle of ten": _sampler(lambda sampler, rows, step: rows(step % 10)),
    "batches of a fixed size": _sampler(_fixed_size),
    "draws by position, public seed": draws_by_position,
    "dropout by position, public seed": lambda patch: draws_by_position(patch, images=False),
    "clipping of each layer": _clipped_by_layer,
    "clipping of each copy": _clipped_by_copy,
    "a layer that mixes": model_changed(lambda model: Centred(model, 1.0)),
    "a buffer of what was seen": model_changed(Remembering),
    "a step along the bare sum": _unnoised_step,
}
"""Further faults, which the audit of a recipe must catch; what was there before saw few of them."""

WEAK = {
    "clipping at 1.5 C": _clipped_at(1.5),
    "clipping at 2 C": _clipped_at(2.0),
    "clipping at 4 C": _clipped_at(4.0),
    "half of the noise": scaled(0.5),
    "noise 2 % short": scaled(0.98),
}
"""Weaker ones, which show how much the audit sees."""


@contextmanager
def planted(fault):
    """Plant a fault by its name, or by the function that patches it in."""
    with pytest.MonkeyPatch.context() as patch:
        (fault if callable(fault) else (FAULTS | MORE | WEAK)[fault])(patch)
        yield
