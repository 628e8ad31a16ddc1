"""Precision: the context of the forward pass, the loss scale, and the optimizer's step.

Weights, gradients and optimizer state stay in ``parameter_dtype``; a 16-bit type is used only where autocast uses it
(Micikevicius et al. 2018, "Mixed precision training").  A step with a non-finite gradient never reaches the
weights: float16 skips it and lowers its loss scale, the others end the run and name the step.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch

from runner.internals.loss_scale import unscale_, update_scale_
from runner.internals.optimizer_step import lean_step
from runner.training.precision.cpu_float16 import half_forward

if TYPE_CHECKING:
    from runner.planning.plan import PrecisionPlan

_NO_CONTEXT = nullcontext()


class NonFiniteGradient(RuntimeError):
    """The gradient of update ``step`` is not finite.  Weights and optimizer are as they were before that update."""

    def __init__(self, step: int) -> None:
        super().__init__(f"step {step}: the gradient is not finite")
        self.step = step


class Precision:
    """Full precision, and what all precisions share."""

    def __init__(self, device: torch.device, parameter_dtype: torch.dtype = torch.float32) -> None:
        """``parameter_dtype``: float32, or float64 for reference computations."""
        self.device = device
        self.parameter_dtype = parameter_dtype
        self._found = torch.zeros((), device=device)
        self._one = torch.ones((), device=device)
        self._checked = False
        self._updates = torch.zeros((), dtype=torch.int64, device=device)
        self._first_step = 0

    def forward(self) -> AbstractContextManager[Any]:
        """The context in which the model and the loss run."""
        return _NO_CONTEXT

    @property
    def loss_scale(self) -> torch.Tensor | None:
        """Factor of the loss before backward, a scalar on the device; None for 1."""
        return None

    def unscale(self, gradients: list[torch.Tensor]) -> None:
        """Divide ``gradients`` by the loss scale in place, and note on the device whether one is not finite."""
        # The flag is never taken back here: the first gradient that is not finite ends the run.
        unscale_(gradients, self._found, self._one)
        self._checked = True

    def step(self, optimizer: torch.optim.Optimizer, parameters: Sequence[torch.Tensor], step: int) -> None:
        """Apply the optimizer to ``parameters``, unless a gradient is not finite.

        On an accelerator with a fused optimizer nothing is read back: from the first non-finite gradient on, the
        kernel itself leaves weights and state alone, until ``raise_if_stopped`` looks.

        Raises:
            NonFiniteGradient: at once where reading a flag costs nothing.
        """
        if not self._checked:
            self.unscale([p.grad for p in parameters if p.grad is not None])
        self._checked = False
        if _steps_lazily(optimizer, self.device):
            self._updates.add_(1 - self._found.to(torch.int64))
            optimizer.found_inf = self._found  # type: ignore[attr-defined]
            lean_step(optimizer)
        elif self._found.item():
            raise NonFiniteGradient(step)
        else:
            lean_step(optimizer)

    def raise_if_stopped(self, step: int) -> None:
        """Read the flag that ``step`` left on the device; ``step`` is the latest update.

        Raises:
            NonFiniteGradient: an update since the last call was held back; it names the first.
        """
        if self.device.type != "cpu" and self._found.item():
            raise NonFiniteGradient(self._first_step + int(self._updates.item()))

    def start_at(self, step: int) -> None:
        """Count updates from ``step``, so that a held-back update can be named."""
        self._first_step = step
        self._updates.zero_()

    @property
    def skipped(self) -> int:
        """Updates skipped because of overflow; reads the device."""
        return 0

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs; empty without a loss scale."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave."""


class Bfloat16(Precision):
    """bfloat16 autocast.  It has float32's range, so it needs no loss scale."""

    def forward(self) -> AbstractContextManager[Any]:
        """Autocast to bfloat16."""
        return torch.autocast(self.device.type, torch.bfloat16)


class Float16(Precision):
    """float16 autocast without a scale of its own, for gradient rules that bring a constant one."""

    def forward(self) -> AbstractContextManager[Any]:
        """Autocast to float16, with convolutions whose backward is usable on a CPU."""
        if self.device.type == "cpu":
            return half_forward()
        return torch.autocast(self.device.type, torch.float16)


class ScaledFloat16(Float16):
    """float16 autocast with the dynamic loss scale of ``torch.amp.GradScaler``: the same rule, kept on the device.

    GradScaler hides how many steps it skipped and reads the device for every optimizer that is not fused; this one
    counts, and decides in the same place as the other precisions.  ``tests/training/test_precision.py`` holds both
    side by side.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        init_scale: float,
        growth_factor: float,
        backoff_factor: float,
        growth_interval: int,
        max_skipped_in_a_row: int,
    ) -> None:
        """The arguments are those of ``torch.amp.GradScaler``, and the skips in a row after which to give up."""
        super().__init__(device)
        self._growth_factor = growth_factor
        self._backoff_factor = backoff_factor
        self._growth_interval = growth_interval
        self._max_in_a_row = max_skipped_in_a_row
        self._scale = torch.full((), init_scale, device=device)
        self._growth_tracker = torch.zeros((), dtype=torch.int32, device=device)
        self._skipped = torch.zeros((), device=device)
        self._in_a_row = torch.zeros((), device=device)

    @property
    def loss_scale(self) -> torch.Tensor:
        """The current scale."""
        return self._scale

    def unscale(self, gradients: list[torch.Tensor]) -> None:
        """Divide by the scale; see ``Precision.unscale``."""
        self._found.zero_()
        unscale_(gradients, self._found, self._scale.reciprocal())
        self._checked = True

    def step(self, optimizer: torch.optim.Optimizer, parameters: Sequence[torch.Tensor], step: int) -> None:
        """Apply the optimizer or skip, then adapt the scale."""
        if not self._checked:
            self.unscale([p.grad for p in parameters if p.grad is not None])
        self._checked = False
        if _steps_lazily(optimizer, self.device):
            optimizer.found_inf = self._found  # type: ignore[attr-defined]
            lean_step(optimizer)
        elif not self._found.item():
            lean_step(optimizer)
        self._skipped.add_(self._found)
        self._in_a_row.add_(1).mul_(self._found)
        update_scale_(
            self._scale,
            self._growth_tracker,
            self._found,
            self._growth_factor,
            self._backoff_factor,
            self._growth_interval,
        )
        if self.device.type == "cpu":
            self.raise_if_stopped(step)

    def raise_if_stopped(self, step: int) -> None:
        """Give up once too many steps in a row overflowed: no scale will help.

        Raises:
            NonFiniteGradient: ``max_skipped_in_a_row`` was reached.
        """
        if self._in_a_row.item() >= self._max_in_a_row:
            raise NonFiniteGradient(step)

    @property
    def skipped(self) -> int:
        """Updates skipped so far; reads the device."""
        return int(self._skipped.item())

    def state_dict(self) -> dict[str, Any]:
        """The scale and its counters."""
        return {
            "scale": self._scale.clone(),
            "growth_tracker": self._growth_tracker.clone(),
            "skipped": self._skipped.clone(),
            "in_a_row": self._in_a_row.clone(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave."""
        self._scale.copy_(state["scale"])
        self._growth_tracker.copy_(state["growth_tracker"])
        self._skipped.copy_(state["skipped"])
        self._in_a_row.copy_(state["in_a_row"])


def build_precision(plan: PrecisionPlan, device: torch.device, *, private: bool) -> Precision:
    """The precision that the plan names; under DP float16 leaves its scale to the gradient rule."""
    if plan.dtype == "float64":
        return Precision(device, torch.float64)
    if plan.dtype == "bfloat16":
        return Bfloat16(device)
    if plan.dtype == "float16":
        if private:
            return Float16(device)
        return ScaledFloat16(
            device,
            init_scale=plan.init_scale,
            growth_factor=plan.growth_factor,
            backoff_factor=plan.backoff_factor,
            growth_interval=plan.growth_interval,
            max_skipped_in_a_row=plan.max_skipped_in_a_row,
        )
    return Precision(device)


def _steps_lazily(optimizer: torch.optim.Optimizer, device: torch.device) -> bool:
    """Whether the optimizer's kernel can skip by itself, so that nobody waits for the device."""
    return device.type != "cpu" and bool(optimizer.defaults.get("fused"))
