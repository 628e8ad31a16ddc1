"""The gradient of every example by itself: the quantity that differentially private training clips.

Two ways to the same numbers:

- ``functional``: ``torch.func`` runs the model on one example and vectorises that over the micro-batch.  Takes any
  model made of vectorisable operations.
- ``hooks``: Opacus records each layer's input and output gradient and multiplies them out, layer by layer.  Its
  optimizer, loader and engine are not used.  Refuses layers that it has no rule for.

``auto`` is ``functional``: about as fast, and it takes models that hooks refuse.  CPU time of a private step over the
plain step, medians of paired steps on one thread, torch 2.15 (functional; hooks): MLP of 64 units on 8x8 digits, 64
examples 4.9; 4.6, a small CNN there, 256 examples 5.2; 7.9, a CNN on 32x32 images, 64 examples 2.0; 1.9, ResNet-18 with
GroupNorm there, 8 examples 8.7; 7.3 (its sums made out of place for the hooks' sake).
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from runner.config.errors import RequestError, nearest
from runner.privacy.out_of_place import out_of_place

GRAD_SAMPLES = ("functional", "hooks")
_NORMS = (nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, nn.modules.instancenorm._InstanceNorm)

Loss = Callable[[Tensor, Tensor], Tensor]
"""(logits [b, classes], labels [b]) -> losses [b]."""
Forward = Callable[[], AbstractContextManager[Any]]
"""Opens the precision's context, in which the model's forward pass runs."""


class PerExample(NamedTuple):
    """What one micro-batch of b examples gives."""

    losses: Tensor
    """[b], unscaled, at least float32, detached; of several images the mean."""
    hits: Tensor
    """[b] bool: the largest logit, of several images the largest mean logit, is the label's."""
    gradients: list[Tensor]
    """One [b, *p.shape] per trainable parameter, in the model's order, times the loss scale, at least float32."""


class PerExampleGradients(Protocol):
    """Per-example losses and gradients of one micro-batch with at least one example.

    An example may be several images, ``copies`` of it side by side; its loss is the mean of theirs.
    """

    def __call__(self, images: Tensor, labels: Tensor) -> PerExample:
        """``images`` [b * copies, C, H, W] and ``labels`` int64 [b] on the model's device."""


def per_example_gradients(
    grad_sample: str, model: nn.Module, *, loss: Loss, forward: Forward, scale: float = 1.0, copies: int = 1
) -> PerExampleGradients:
    """The way named ``grad_sample`` for ``model``; ``scale`` multiplies the loss before the backward pass.

    ``copies`` is the number of images that make up an example.

    Raises:
        RequestError: an unknown way, or a model with layers for which per-example gradients do not exist.
    """
    if grad_sample not in GRAD_SAMPLES:
        raise RequestError(
            "privacy.grad_sample",
            grad_sample,
            "one of auto, " + ", ".join(GRAD_SAMPLES),
            nearest=nearest(grad_sample, ("auto", *GRAD_SAMPLES)),
        )
    refuse_shared_statistics(model)
    refuse_low_precision(model)
    if grad_sample == "functional":
        return FunctionalGradients(model, loss=loss, forward=forward, scale=scale, copies=copies)
    return HookGradients(model, loss=loss, forward=forward, scale=scale, copies=copies)


def resolve_grad_sample(requested: str) -> str:
    """The way that ``privacy.grad_sample`` means: ``auto`` is ``functional``, for the figures in the module's text."""
    return "functional" if requested == "auto" else requested


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that training changes, by name, in the model's order."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def refuse_shared_statistics(model: nn.Module) -> None:
    """Refuses layers that mix examples, or that keep statistics of private examples without noise.

    Raises:
        RequestError: ``model`` has batch normalisation, or another normalisation with running statistics.
    """
    layers = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._NormBase)
        and (isinstance(module, nn.modules.batchnorm._BatchNorm) or module.track_running_stats)
    ]
    if layers:
        more = f" and {len(layers) - 1} more" if len(layers) > 1 else ""
        got = f"statistics over the batch in {layers[0] or 'the model'}{more}"
        raise RequestError("model.norm", got, "group: under DP a gradient must depend on one example alone")


def refuse_low_precision(model: nn.Module) -> None:
    """Refuses trainable parameters below float32, in which clipping and noise would be rounded away.

    Raises:
        RequestError: the first such parameter, or parameters of two types.
    """
    types = {name: parameter.dtype for name, parameter in trainable(model).items()}
    for name, dtype in types.items():
        if dtype not in (torch.float32, torch.float64):
            raise RequestError("precision.amp_dtype", f"{name} in {dtype}", "weights in float32 or float64 under DP")
    if len(set(types.values())) > 1:
        raise RequestError("precision.amp_dtype", "weights of two types", "all in float32 or all in float64 under DP")


class FunctionalGradients:
    """``vmap(grad(...))`` of ``torch.func`` over the model as a function of its parameters."""

    def __init__(self, model: nn.Module, *, loss: Loss, forward: Forward, scale: float, copies: int = 1) -> None:
        self._parameters = trainable(model)
        self._copies = copies
        self._norms = [module for module in model.modules() if isinstance(module, _NORMS)]
        _quiet_fallbacks()

        def one(parameters: dict[str, Tensor], images: Tensor, label: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
            with forward(), out_of_place(), _plain_attention():
                logits = torch.func.functional_call(model, parameters, (images,))
            logits = _at_least_float32(logits)
            found = loss(logits, label.expand(copies)).mean()
            return found * scale, (found, logits.mean(0).argmax(0) == label)

        # "different": every example has its own dropout mask, as in a plain batch
        self._vectorised = torch.func.vmap(
            torch.func.grad(one, has_aux=True), in_dims=(None, 0, 0), randomness="different"
        )

    def __call__(self, images: Tensor, labels: Tensor) -> PerExample:
        """See ``PerExampleGradients``."""
        parameters = {name: parameter.detach() for name, parameter in self._parameters.items()}
        with _norms_in_float32(self._norms):
            gradients, (losses, hits) = self._vectorised(parameters, images.unflatten(0, (-1, self._copies)), labels)
        return PerExample(losses, hits, [_at_least_float32(gradients[name]) for name in parameters])


class HookGradients:
    """Opacus' layer rules, attached for the length of one call, so that the model outside never shows a trace."""

    def __init__(self, model: nn.Module, *, loss: Loss, forward: Forward, scale: float, copies: int = 1) -> None:
        self._model = model
        self._copies = copies
        self._parameters = trainable(model)
        self._loss = loss
        self._forward = forward
        self._scale = scale
        self._norms = [module for module in model.modules() if isinstance(module, _NORMS)]
        _quiet_fallbacks()

    def __call__(self, images: Tensor, labels: Tensor) -> PerExample:
        """See ``PerExampleGradients``."""
        # Asking for the gradient of the images alone sends the backward pass through every layer and spares the
        # summed weight gradients, which nothing reads.
        images = images.detach().requires_grad_()
        with _norms_in_float32(self._norms), _attached(self._model):
            with self._forward(), out_of_place(), _plain_attention():
                logits = self._model(images)
            logits = _at_least_float32(logits)
            losses = self._loss(logits, labels.repeat_interleave(self._copies)) / self._copies
            torch.autograd.grad(losses.sum() * self._scale, images)
            gradients = [self._gradient(name, parameter) for name, parameter in self._parameters.items()]
        by_example = (len(labels), self._copies)
        hits = logits.unflatten(0, by_example).mean(1).argmax(1) == labels
        return PerExample(losses.detach().unflatten(0, by_example).sum(1), hits, gradients)

    def _gradient(self, name: str, parameter: nn.Parameter) -> Tensor:
        gradient = parameter.grad_sample  # type: ignore[attr-defined]
        if not isinstance(gradient, Tensor):
            raise RequestError("privacy.grad_sample", "hooks", f"functional: hooks saw no gradient of {name}")
        gradient = _at_least_float32(gradient)
        return gradient if self._copies == 1 else gradient.unflatten(0, (-1, self._copies)).sum(1)


@contextmanager
def _attached(model: nn.Module) -> Iterator[None]:
    try:
        hooks = _float32_hooks()(model, loss_reduction="sum")
    except NotImplementedError as refusal:
        raise RequestError("privacy.grad_sample", "hooks", f"functional: {refusal}") from refusal
    try:
        yield
    finally:
        hooks.cleanup()
        for module in model.modules():
            # left behind where a forward or backward pass was cut short
            for name in ("activations", "max_batch_len"):
                module.__dict__.pop(name, None)


@functools.cache
def _float32_hooks() -> Any:
    """Opacus' hooks with a layer's inputs and output gradients multiplied in at least float32."""
    from opacus.grad_sample import GradSampleHooks

    class Float32Hooks(GradSampleHooks):
        def rearrange_grad_samples(self, **arguments: Any) -> tuple[list[Tensor], Tensor]:
            activations, backprops = super().rearrange_grad_samples(**arguments)
            # its convolution rule reads channels_last tensors as if they were contiguous: wrong, without a word
            rows = [_at_least_float32(tensor).contiguous() for tensor in activations]
            return rows, _at_least_float32(backprops).contiguous()

    return Float32Hooks


@contextmanager
def _norms_in_float32(norms: Sequence[nn.Module]) -> Iterator[None]:
    """Normalisation in at least float32, as autocast has it on CUDA.

    Autocast leaves it in 16 bits on the CPU.  Plain kernels widen inside, but their vectorised gradients do not: cubes
    of 1/deviation overflow float16 and would zero perfectly good examples.
    """

    def widen(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (_at_least_float32(inputs[0]),)

    handles = [module.register_forward_pre_hook(widen) for module in norms]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Attention by matrix products in one type, which vectorise; a fused kernel would run once per example."""
    before = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
    # for the CPU too, in spite of its name: otherwise 16-bit inputs are widened half-way and have no gradient here
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(before)


def _quiet_fallbacks() -> None:
    """An operation without a vectorised form runs once per example: right, slower, and no news to the user."""
    warnings.filterwarnings("ignore", message="There is a performance drop because we have not yet implemented")


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
