"""The ordinary gradient: the mean over the examples of a logical batch, clipped by its global norm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import torch

from runner.internals.backward import lean_backward
from runner.optim.flat_gradients import FLAGS, gradient_views
from runner.training.profiling.phase_timer import Enter, unobserved
from runner.training.running_metrics import Answers, UnscoredLogits

if TYPE_CHECKING:
    from runner.tasks.task import Task
    from runner.training.distributed.world import World
    from runner.training.precision.precision import Precision


class GradientRule(Protocol):
    """How the gradients of single examples become the gradient of an update."""

    @property
    def zeroed(self) -> torch.Tensor | None:
        """Times that an example was left out because its gradient was not finite, int64; None where none ever is."""
        ...

    def begin(self, denominator: float) -> None:
        """Start a logical batch whose summed gradient will be divided by ``denominator``."""
        ...

    def add(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, Answers]:
        """Forward and backward of one micro-batch, possibly empty.

        Args:
            images: [b, C, H, W] on the device.
            labels: int64 [b] on the device, or the share of each class, [b, K].

        Returns:
            The sum of the b losses, a detached scalar, and the b answers; both on the device.
        """
        ...

    def share(self, flags: Sequence[bool]) -> list[bool]:
        """Add up the sums of all processes, which no ``release`` does; with one process there is nothing to do.

        Args:
            flags: ``runner.optim.flat_gradients.FLAGS`` questions of this process.

        Returns:
            For each whether a process has answered yes.
        """
        ...

    def release(self, step: int) -> torch.Tensor | None:
        """Leave the update's gradient in each parameter's ``grad``.

        Returns:
            The global norm where it was needed anyway, a scalar on the device: before clipping (mean), or of what was
            released (private).
        """
        ...


class MeanRule:
    """Sum the losses of every example in every process, divide once by their true number, clip once.

    Dividing by the number of micro-batches instead, as most loops do, halves the gradient of an epoch's last,
    shorter window.
    """

    zeroed = None

    def __init__(
        self,
        model: torch.nn.Module,
        *,
        task: Task,
        precision: Precision,
        world: World,
        clip_norm: float | None,
        enter: Enter = unobserved,
        compiled: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        """``task`` gives the sum of the losses of a micro-batch; ``enter`` is told what begins.

        ``compiled`` computes the logits in the place of ``model``, from the same parameters.
        """
        self._model = model if compiled is None else compiled
        self._backward = lean_backward if compiled is None else torch.Tensor.backward
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._total = task.total
        self._precision = precision
        self._world = world
        self._clip_norm = clip_norm
        self._enter = enter
        self._denominator = 1.0
        self._shared = _SharedGradients(self._parameters) if world.size > 1 else None
        device = self._parameters[0].device
        self._weight = torch.ones((), dtype=self._parameters[0].dtype, device=device)
        self._nothing = (torch.zeros((), device=device), torch.zeros(0, dtype=torch.bool, device=device))

    def begin(self, denominator: float) -> None:
        """Forget the last gradient; the new one will be divided by ``denominator``, the examples of all processes."""
        if denominator != self._denominator:
            self._denominator = denominator
            self._weight.fill_(1.0 / denominator)
        self.forget()

    def forget(self) -> None:
        """Leave no gradient."""
        for parameter in self._parameters:
            parameter.grad = None

    def add(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, Answers]:
        """See ``GradientRule.add``."""
        if not len(labels):
            return self._nothing
        self._enter("forward")
        total, logits = self.forward_backward(images, labels, enter=self._enter)
        return total, UnscoredLogits(logits, labels)

    def forward_backward(
        self, images: torch.Tensor, labels: torch.Tensor, *, enter: Enter
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The sum of the losses and the logits [b, K], detached; the weighted gradient is added to each ``grad``."""
        with self._precision.forward():
            total, logits = self._total(self._model, images, labels)
        enter("backward")
        scale = self._precision.loss_scale
        # the gradient of the total is where weight and scale enter: the graph needs no products of its own
        self._backward(total, self._weight if scale is None else self._weight * scale)
        return total.detach(), logits.detach()

    def share(self, flags: Sequence[bool]) -> list[bool]:
        """See ``GradientRule.share``."""
        if self._shared is None:
            return list(flags)
        self._enter("waiting")
        return self._shared.sum_over(self._world, flags)

    def release(self, step: int) -> torch.Tensor | None:
        """Undo the loss scale, then clip: the norm is that of the true gradient."""
        self._enter("optimizer" if self._clip_norm is None else "clip_and_noise")
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        self._precision.unscale(gradients)
        if self._clip_norm is None:
            return None
        norm = torch.nn.utils.get_total_norm(gradients)
        torch.nn.utils.clip_grads_with_norm_(self._parameters, self._clip_norm, norm)
        return norm


class _SharedGradients:
    """One flat buffer for all gradients: one collective a step, and zeros for a process that had no example."""

    def __init__(self, parameters: list[torch.nn.Parameter]) -> None:
        self._parameters = parameters
        first = parameters[0]
        size = sum(p.numel() for p in parameters) + FLAGS
        self._flat = torch.zeros(size, dtype=first.dtype, device=first.device)
        self._views = gradient_views(self._flat, parameters)

    def sum_over(self, world: World, flags: Sequence[bool]) -> list[bool]:
        for parameter, view in zip(self._parameters, self._views, strict=True):
            if parameter.grad is None:
                view.zero_()
            else:
                view.copy_(parameter.grad)
            parameter.grad = view
        return world.sum_(self._flat, flags)
