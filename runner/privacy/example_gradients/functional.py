"""``privacy.grad_sample=functional``: ``torch.func`` runs the model on one example and vectorises that."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from runner.internals.functional_grad import compiler_left_out
from runner.privacy.example_gradients.low_precision import (
    at_least_float32,
    normalisations,
    norms_in_float32,
    plain_attention,
    quiet_fallbacks,
)
from runner.privacy.example_gradients.out_of_place import out_of_place
from runner.privacy.example_gradients.parameter import Rows
from runner.privacy.example_gradients.per_example import Forward, Loss, PerExample, trainable
from runner.privacy.mechanism.random_layers import LayerKeys


class FunctionalGradients:
    """``vmap(grad(...))`` of ``torch.func`` over the model as a function of its parameters."""

    def __init__(self, model: nn.Module, *, loss: Loss, forward: Forward, scale: float, copies: int = 1) -> None:
        self._copies = copies
        self._parameters = trainable(model)
        self._norms = normalisations(model)
        quiet_fallbacks()

        drawing = self._drawing = LayerKeys.of(model)

        def one(
            parameters: dict[str, Tensor], images: Tensor, label: Tensor, *keys: Tensor
        ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
            own = nullcontext() if drawing is None else drawing.during(*keys)
            with own, forward(), out_of_place(), plain_attention():
                logits = torch.func.functional_call(model, parameters, (images,))
            logits = at_least_float32(logits)
            found = loss(logits, label.expand(copies)).mean()
            return found * scale, (found, logits.mean(0).argmax(0) == label)

        split = (0, 0) if drawing is None else (0, 0, 0)
        # "error": what an example draws has to follow from its own key
        self._vectorised = torch.func.vmap(
            torch.func.grad(one, has_aux=True), in_dims=(None, *split), randomness="error"
        )

    def __call__(self, images: Tensor, labels: Tensor) -> PerExample:
        """See ``PerExampleGradients``."""
        parameters = {name: parameter.detach() for name, parameter in self._parameters.items()}
        split = [images.unflatten(0, (-1, self._copies)), labels]
        if self._drawing is not None:
            split.append(self._drawing.current.unflatten(0, (-1, self._copies)))
        with norms_in_float32(self._norms), compiler_left_out():
            gradients, (losses, hits) = self._vectorised(parameters, *split)
        return PerExample(losses, hits, [Rows(at_least_float32(gradients[name])) for name in parameters])
