"""The private gradient: clip each example, sum, add noise once, divide by a constant (Abadi et al. 2016, alg. 1)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from runner.optim.flat_gradients import FLAGS, gradient_views
from runner.privacy.example_gradients.grad_sample import per_example_gradients
from runner.privacy.example_gradients.per_example import Forward, Loss, trainable
from runner.privacy.independence.runtime_check import RuntimeMixingCheck
from runner.privacy.independence.runtime_check import void_error as found_void
from runner.privacy.mechanism.noise import NoiseSource

if TYPE_CHECKING:
    from runner.records.step_time import Phase


class Summing(Protocol):
    """The part of a world that the rule needs."""

    def sum_(self, tensor: Tensor, flags: Sequence[bool] = ()) -> list[bool]:
        """Replaces ``tensor`` by its sum over all processes; see ``runner.training.distributed.world.World``."""


class PrivateRule:
    """Turns micro-batches into one differentially private gradient.

    released = (sum_i g_i min(1, C / |g_i|) + sigma C z) / expected_batch, with C = ``max_grad_norm``,
    sigma = ``noise_multiplier`` and z standard normal noise.

    - Norms, clipping, sum and noise are float32 whatever the forward pass ran in (float64 for float64 models).
    - An example whose gradient is not finite counts as one of gradient zero, of loss zero and as a miss.  That is a
      function of this example alone, so the sensitivity stays C; ``zeroed`` counts them.
    - ``expected_batch`` is the constant q N and never the number of examples drawn, which is secret.
    - Noise depends on the secret key and the step, and every process has the same key.  So each adds the same noise to
      the same sum: once in all, without sending it.
    - What a micro-batch holds at once, up to b gradients, is bounded by ``data.batch_size``.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        loss: Loss,
        forward: Forward,
        world: Summing,
        noise: NoiseSource,
        max_grad_norm: float,
        noise_multiplier: float,
        expected_batch: float,
        static_scale: float = 1.0,
        grad_sample: str = "functional",
        copies: int = 1,
        enter: Callable[[Phase], None] = lambda phase: None,
        watch: RuntimeMixingCheck | None = None,
    ) -> None:
        """``copies`` is the number of images of each example, whose mean gradient is clipped (De et al. 2022).

        ``enter`` is told which phase of the step begins; where the backward pass does, the end of ``forward`` shows.

        ``static_scale`` multiplies the loss, against float16 underflow, and is taken out before clipping.

        It must be constant: a scale that follows overflows tells something about the data.

        ``watch`` looks at micro-batches before they are added up.

        Raises:
            RequestError: the model cannot have per-example gradients (see ``per_example_gradients``).
        """
        self._gradients = per_example_gradients(
            grad_sample, model, loss=loss, forward=forward, scale=static_scale, copies=copies
        )
        self._world = world
        self._noise = noise
        self._max_grad_norm = max_grad_norm
        self._noise_multiplier = noise_multiplier
        self._expected_batch = expected_batch
        self._static_scale = static_scale
        self._enter = enter
        self._watch = watch
        self._parameters = list(trainable(model).values())
        first = self._parameters[0]
        size = sum(map(torch.numel, self._parameters))
        self._shared = torch.zeros(size + FLAGS + 1, dtype=first.dtype, device=first.device)
        self._flat = self._shared[:size]
        self._views = gradient_views(self._flat, self._parameters)
        self.zeroed = torch.zeros((), dtype=torch.int64, device=first.device)
        """Examples of this process, since the start, whose gradient was not finite: int64 scalar on the device.

        A batch counts when it is released, so that an attempt that was given up leaves no trace.
        """
        self._zeroed_now = torch.zeros_like(self.zeroed)

    @property
    def noise_form(self) -> dict[str, str]:
        """What the noise is a function of besides key and step: see ``NoiseSource.form``."""
        return self._noise.form(self._flat.device, self._flat.dtype)

    def begin(self, denominator: float) -> None:
        """Starts a logical batch; ``denominator`` must be the constant expected batch.

        Raises:
            ValueError: it is another number, which would tell how many examples were drawn.
        """
        if not math.isclose(denominator, self._expected_batch, rel_tol=1e-9):
            raise ValueError(f"a private batch is divided by {self._expected_batch}, not by {denominator}")
        self._flat.zero_()
        self._zeroed_now.zero_()

    def add(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Adds the clipped gradients of a micro-batch: labels [b], b >= 0, and images [b * copies, C, H, W].

        Returns:
            The sum of the losses (float32 scalar; an example that is left out counts with the mean of the others) and
            which answers count as right (bool [b]), on the device.
        """
        if len(labels) == 0:
            return torch.zeros((), device=self._flat.device), torch.zeros(0, dtype=torch.bool, device=self._flat.device)
        self._enter("forward")
        if self._watch is not None:
            self._watch.check(self._gradients, images, labels)
        losses, hits, gradients = self._gradients(images, labels)
        self._enter("clip_and_noise")
        norms = torch.linalg.vector_norm(torch.stack([gradient.norms() for gradient in gradients]), dim=0)
        finite = norms.isfinite()
        # On the scaled gradients: min(1, C / norm) / S = C / max(S norm, S C)
        factors = self._max_grad_norm / norms.clamp(min=self._max_grad_norm * self._static_scale)
        factors = torch.where(finite, factors, 0.0)
        # The CPU has nothing to wait for and can look first; elsewhere leaving out is always queued.
        dropped = ~finite if images.device.type != "cpu" or not bool(finite.all()) else None
        for gradient, view in zip(gradients, self._views, strict=True):
            view += gradient.weighted_sum(factors, dropped)
        self._zeroed_now += (~finite).sum()
        # the others stand in for those left out, so that the sum over all is that of their mean; NaN where none is left
        share_left = finite.sum() / len(labels)
        return (torch.where(finite, losses, 0.0).sum() / share_left).float(), hits & finite

    @property
    def clipped_sum(self) -> Tensor:
        """What has been added since ``begin``, before the noise: [parameters], a view that the next step overwrites."""
        return self._flat

    def share(self, flags: Sequence[bool]) -> list[bool]:
        """Adds up the clipped sums of all processes, before the noise; see ``GradientRule.share``.

        Raises:
            EpsilonVoid: examples were found to meet, in any process; nothing of this step has been released.
        """
        self._enter("waiting")
        if self._watch is None:
            return self._world.sum_(self._shared, flags)
        *answers, void = self._world.sum_(self._shared, (*flags, self._watch.fault is not None))
        if void:
            raise found_void(self._watch.fault)
        return answers

    def refuse_traces(self) -> None:
        """Look whether the model is as it was at the start, apart from what the optimizer changes; before it is saved.

        Raises:
            EpsilonVoid: the forward passes have left something behind, in any process.
        """
        fault = None if self._watch is None else self._watch.kept()
        if any(self._world.sum_(torch.zeros(1, device=self._flat.device), (fault is not None,))):
            raise found_void(fault)

    def release(self, step: int) -> Tensor:
        """Puts the noised mean into every ``p.grad`` and returns its L2 norm (scalar on the device).

        The gradients are views of one buffer, which the next ``begin`` clears.
        """
        self._enter("clip_and_noise")
        if self._noise_multiplier > 0.0:
            noise = self._noise.normal(step, self._flat.numel(), self._flat.device, self._flat.dtype)
            self._flat.add_(noise, alpha=self._noise_multiplier * self._max_grad_norm)
        self._flat.div_(self._expected_batch)
        self.zeroed += self._zeroed_now
        for parameter, view in zip(self._parameters, self._views, strict=True):
            parameter.grad = view
        return torch.linalg.vector_norm(self._flat)
