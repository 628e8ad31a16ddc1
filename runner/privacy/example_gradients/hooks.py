"""``privacy.grad_sample=hooks``: Opacus' rules for single layers, and nothing else of it."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from runner.errors import RequestError
from runner.privacy.example_gradients.low_precision import (
    at_least_float32,
    normalisations,
    norms_in_float32,
    plain_attention,
    quiet_fallbacks,
)
from runner.privacy.example_gradients.out_of_place import out_of_place
from runner.privacy.example_gradients.parameter import Rows, over_copies
from runner.privacy.example_gradients.per_example import Forward, Loss, PerExample, trainable


class HookGradients:
    """Opacus' layer rules, attached for the length of one call, so that the model outside never shows a trace."""

    def __init__(self, model: nn.Module, *, loss: Loss, forward: Forward, scale: float, copies: int = 1) -> None:
        self._model = model
        self._copies = copies
        self._parameters = trainable(model)
        self._loss = loss
        self._forward = forward
        self._scale = scale
        self._norms = normalisations(model)
        quiet_fallbacks()

    def __call__(self, images: Tensor, labels: Tensor) -> PerExample:
        """See ``PerExampleGradients``."""
        # Asking for the gradient of the images alone sends the backward pass through every layer and spares the
        # summed weight gradients, which nothing reads.
        images = images.detach().requires_grad_()
        with norms_in_float32(self._norms), _attached(self._model):
            with self._forward(), out_of_place(), plain_attention():
                logits = self._model(images)
            logits = at_least_float32(logits)
            losses = self._loss(logits, labels.repeat_interleave(self._copies)) / self._copies
            torch.autograd.grad(losses.sum() * self._scale, images)
            gradients = [Rows(self._gradient(name, parameter)) for name, parameter in self._parameters.items()]
        by_example = (len(labels), self._copies)
        hits = logits.unflatten(0, by_example).mean(1).argmax(1) == labels
        return PerExample(losses.detach().unflatten(0, by_example).sum(1), hits, gradients)

    def _gradient(self, name: str, parameter: nn.Parameter) -> Tensor:
        gradient = parameter.grad_sample  # type: ignore[attr-defined]
        if not isinstance(gradient, Tensor):
            raise RequestError("privacy.grad_sample", "hooks", f"functional: hooks saw no gradient of {name}")
        return over_copies(at_least_float32(gradient), self._copies)


@contextmanager
def _attached(model: nn.Module) -> Iterator[None]:
    try:
        hooks = _float32_hooks()(model, loss_reduction="sum")
    except NotImplementedError as refusal:
        raise RequestError("privacy.grad_sample", "hooks", f"functional: {refusal}") from refusal
    named = [
        module.register_forward_pre_hook(_refuse_named_tensors, with_kwargs=True)
        for module in model.modules()
        if any(parameter.requires_grad for parameter in module.parameters(recurse=False))
    ]
    try:
        yield
    finally:
        hooks.cleanup()
        for handle in named:
            handle.remove()
        for module in model.modules():
            # left behind where a forward or backward pass was cut short
            for name in ("activations", "max_batch_len"):
                module.__dict__.pop(name, None)


def _refuse_named_tensors(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
    """Opacus' hooks see what a layer is given by place alone."""
    if found := [name for name, value in named.items() if isinstance(value, Tensor)]:
        reason = f"a {type(module).__name__} is given {found[0]} by name"
        raise RequestError("privacy.grad_sample", "hooks", f"functional: {reason}")


@functools.cache
def _float32_hooks() -> Any:
    """Opacus' hooks with a layer's inputs and output gradients multiplied in at least float32."""
    from opacus.grad_sample import GradSampleHooks

    class Float32Hooks(GradSampleHooks):
        def rearrange_grad_samples(self, **arguments: Any) -> tuple[list[Tensor], Tensor]:
            activations, backprops = super().rearrange_grad_samples(**arguments)
            # its convolution rule reads channels_last tensors as if they were contiguous: wrong, without a word
            rows = [at_least_float32(tensor).contiguous() for tensor in activations]
            return rows, at_least_float32(backprops).contiguous()

    return Float32Hooks
