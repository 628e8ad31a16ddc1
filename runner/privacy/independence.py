"""Evidence, before a private run starts, that each example's gradient depends on that example alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from runner.config.errors import RequestError
from runner.privacy.grad_sample import per_example_gradients
from runner.privacy.per_example import Forward, trainable
from runner.privacy.random_layers import drawing

_SEED = 20_260
_TOLERANCE = 1e-2


def check_examples_independent(
    model: nn.Module, *, grad_sample: str, image_shape: tuple[int, int, int], forward: Forward = nullcontext
) -> None:
    """Proves on two random images that ``model`` gives one gradient per example, or refuses it.

    1. The first image's logits and gradient stay the same when its companion changes.
    2. They equal the gradient of that image by itself, by ordinary back-propagation.
    3. The precision's own ``forward`` context and the model's dropout work with per-example gradients.

    Parameters, buffers, training mode and the global random state are left as they were found.  ``image_shape`` is
    (C, H, W).

    Raises:
        RequestError: the layer, or the model, that mixes examples; or why per-example gradients cannot be had.
    """
    device = next(model.parameters()).device
    dtype = next(iter(trainable(model).values())).dtype
    generator = torch.Generator().manual_seed(_SEED)
    images = torch.randn(3, *image_shape, generator=generator).to(device, dtype)
    # far away from the first companion, so that mixing shows
    images[2] *= 3.0
    first, second = images[[0, 1]], images[[0, 2]]
    gradients = per_example_gradients(grad_sample, model, loss=_loss, forward=nullcontext)
    with drawing(model, 2), _training_without_dropout(model), fixed_randomness(device):
        labels = torch.zeros(2, dtype=torch.int64, device=device)

        def gradient(batch: Tensor) -> Tensor:
            torch.manual_seed(_SEED)
            only_first = torch.eye(len(batch), dtype=dtype, device=device)[0]
            found = gradients(batch, labels[: len(batch)]).gradients
            return torch.cat([each.weighted_sum(only_first, None).flatten() for each in found])

        with _refusing(model, grad_sample):
            alone, among = gradient(first), gradient(second)
        if _differ(_logits(model, first)[0], _logits(model, second)[0]) or _differ(alone, among):
            layer = _mixing_layer(model, first, second)
            raise RequestError(
                "model.name", f"{layer}, which mixes the examples of a batch", "layers that treat each by itself"
            )
        reference = _plain_gradient(model, images[:1], labels[:1], _SEED)
        # A model with randomness that no module switches off has nothing to compare with.
        if not _differ(reference, _plain_gradient(model, images[:1], labels[:1], _SEED + 1)) and _differ(
            alone, reference
        ):
            got = f"{grad_sample}, whose gradients of {type(model).__name__} differ from back-propagation"
            raise RequestError("privacy.grad_sample", got, _another(grad_sample))
    with drawing(model, 2), _in_training(model), fixed_randomness(device), _refusing(model, grad_sample):
        per_example_gradients(grad_sample, model, loss=_loss, forward=forward)(first, labels)


def _loss(logits: Tensor, labels: Tensor) -> Tensor:
    # not F.cross_entropy, which torch.func takes apart in Python, and slowly
    return -logits.log_softmax(1).gather(1, labels[:, None]).squeeze(1)


def _logits(model: nn.Module, images: Tensor) -> Tensor:
    torch.manual_seed(_SEED)
    with torch.no_grad():
        return model(images)


def _plain_gradient(model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
    torch.manual_seed(seed)
    parameters = list(trainable(model).values())
    found = torch.autograd.grad(_loss(model(images), labels).sum(), parameters, allow_unused=True)
    return torch.cat(
        [
            (torch.zeros_like(parameter) if gradient is None else gradient).flatten()
            for parameter, gradient in zip(parameters, found, strict=True)
        ]
    )


def _differ(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).norm() > _TOLERANCE * max(float(one.norm()), float(other.norm())))


def _mixing_layer(model: nn.Module, first: Tensor, second: Tensor) -> str:
    """The first module to finish whose input agrees on the shared example and whose output does not."""
    traces = [_trace(model, batch) for batch in (first, second)]
    for (name, before, after), (_, other_before, other_after) in zip(*traces, strict=True):
        if before.shape == other_before.shape and not _differ(before, other_before) and _differ(after, other_after):
            return name
    return type(model).__name__


def _trace(model: nn.Module, batch: Tensor) -> list[tuple[str, Tensor, Tensor]]:
    """(name, first row of the input, first row of the output) of every module, innermost first."""
    found: list[tuple[str, Tensor, Tensor]] = []
    names = {module: f"{name} ({type(module).__name__})" if name else "" for name, module in model.named_modules()}
    entered: list[Tensor | None] = []

    def before(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        # a copy, because an in-place layer overwrites it
        entered.append(inputs[0][0].detach().clone() if inputs and isinstance(inputs[0], Tensor) else None)

    def after(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        row = entered.pop()
        if row is not None and isinstance(output, Tensor):
            found.append((names[module] or type(module).__name__, row, output[0].detach().clone()))

    handles = []
    for module in names:
        handles += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
    try:
        _logits(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    return found


@contextmanager
def _refusing(model: nn.Module, grad_sample: str) -> Iterator[None]:
    try:
        yield
    except RequestError:
        raise
    except (RuntimeError, NotImplementedError, ValueError, TypeError) as failure:
        reason = str(failure).splitlines()[0][:160]
        cure = f"{_another(grad_sample)}, or another model"
        expected = f"{cure}: {type(model).__name__} has no gradients per example here: {reason}"
        raise RequestError("privacy.grad_sample", grad_sample, expected) from failure


def _another(grad_sample: str) -> str:
    return "hooks" if grad_sample == "functional" else "functional"


@contextmanager
def _training_without_dropout(model: nn.Module) -> Iterator[None]:
    """Training mode, apart from modules without parameters, among which are dropout and stochastic depth."""
    with _in_training(model):
        for module in model.modules():
            if next(module.parameters(), None) is None:
                module.training = False
        yield


@contextmanager
def _in_training(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    model.train()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def fixed_randomness(device: torch.device) -> Iterator[None]:
    """The global random state is put back afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else [], device_type="cuda"):
        yield
