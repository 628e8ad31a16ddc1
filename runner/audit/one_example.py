"""The clipped gradient of one example by itself, by plain back-propagation: what private training adds up."""

from __future__ import annotations

import copy
import dataclasses
from contextlib import nullcontext

import torch
from torch import Tensor

from runner.data import augment
from runner.privacy.example_gradients.per_example import trainable
from runner.privacy.mechanism.example_rng import ExampleRng
from runner.training.gradients.micro_batches import micro_batches
from runner.training.parts import Parts


class OneExample:
    """A copy of a private run's model that sees one example at a time, at the run's weights and with its draws."""

    def __init__(self, parts: Parts, *, dtype: torch.dtype | None = None) -> None:
        """In the arithmetic of the run, or throughout in ``dtype``."""
        semantic = parts.plan.semantic
        assert semantic.privacy is not None
        assert parts.key is not None
        self._source = parts.model
        self._model = copy.deepcopy(parts.model).to(dtype=dtype)
        self._parameters = list(trainable(self._model).values())
        self._dtype = dtype
        copies = semantic.privacy.augmentation_multiplicity
        self._copies = copies
        draws = ExampleRng(parts.key, self._model, copies=copies, blocks=augment.blocks(semantic.data.augment))
        self._parts = dataclasses.replace(parts, model=self._model, draws=draws)
        self._forward = nullcontext if dtype is not None else parts.precision.forward
        scaled = dtype is None and semantic.precision.dtype == "float16"
        self._scale = semantic.precision.static_scale if scaled else 1.0
        self._loss = parts.task.losses
        self._max_grad_norm = semantic.privacy.max_grad_norm

    def follow(self) -> None:
        """Take the weights that the run has now."""
        self._model.load_state_dict(self._source.state_dict())

    def clipped(self, step: int, row: int) -> Tensor:
        """Clipped gradient, g min(1, C / |g|), of the example at ``row`` in update ``step``, [parameters].

        Zero where g is not finite.  In memory order of the parameters, as ``PrivateRule.clipped_sum`` is.
        """
        [(_, images, labels)] = micro_batches(self._parts, step, torch.tensor([row]), rank=0, size=1)
        with torch.enable_grad():
            with self._forward():
                logits = self._model(images if self._dtype is None else images.to(self._dtype))
            logits = logits if logits.dtype == torch.float64 else logits.float()
            loss = self._loss(logits, labels.expand(self._copies)).mean() * self._scale
            gradients = torch.autograd.grad(loss, self._parameters, allow_unused=True, materialize_grads=True)
        flat = torch.cat(
            [_in_memory_order(gradient, p) for gradient, p in zip(gradients, self._parameters, strict=True)]
        )
        flat /= self._scale
        norm = flat.norm()
        if not norm.isfinite():
            return torch.zeros_like(flat)
        return flat * (self._max_grad_norm / norm).clamp(max=1.0)


def _in_memory_order(gradient: Tensor, parameter: Tensor) -> Tensor:
    """The numbers of ``gradient`` in the order in which ``parameter`` lies in memory."""
    strides = torch.empty_like(parameter, device="meta").stride()
    return gradient.permute(sorted(range(parameter.dim()), key=lambda dimension: -strides[dimension])).reshape(-1)
