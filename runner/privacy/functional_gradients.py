"""``privacy.grad_sample=functional``: ``torch.func`` runs the model on one example and vectorises that."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from runner.privacy.example_gradients import Rows
from runner.privacy.lean_functional import compiler_left_out
from runner.privacy.out_of_place import out_of_place
from runner.privacy.per_example import Forward, Loss, PerExample, trainable
from runner.privacy.sixteen_bits import (
    at_least_float32,
    normalisations,
    norms_in_float32,
    plain_attention,
    quiet_fallbacks,
)


class FunctionalGradients:
    """``vmap(grad(...))`` of ``torch.func`` over the model as a function of its parameters."""

    def __init__(self, model: nn.Module, *, loss: Loss, forward: Forward, scale: float, copies: int = 1) -> None:
        self._copies = copies
        self._parameters = trainable(model)
        self._norms = normalisations(model)
        quiet_fallbacks()

        def one(parameters: dict[str, Tensor], images: Tensor, label: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
            with forward(), out_of_place(), plain_attention():
                logits = torch.func.functional_call(model, parameters, (images,))
            logits = at_least_float32(logits)
            found = loss(logits, label.expand(copies)).mean()
            return found * scale, (found, logits.mean(0).argmax(0) == label)

        # "different": every example has its own dropout mask, as in a plain batch
        self._vectorised = torch.func.vmap(
            torch.func.grad(one, has_aux=True), in_dims=(None, 0, 0), randomness="different"
        )

    def __call__(self, images: Tensor, labels: Tensor) -> PerExample:
        """See ``PerExampleGradients``."""
        parameters = {name: parameter.detach() for name, parameter in self._parameters.items()}
        with norms_in_float32(self._norms), compiler_left_out():
            gradients, (losses, hits) = self._vectorised(parameters, images.unflatten(0, (-1, self._copies)), labels)
        return PerExample(losses, hits, [Rows(at_least_float32(gradients[name])) for name in parameters])
