"""``privacy.grad_sample=auto``: the fastest way to per-example gradients for this model and machine."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from runner.config.choice import Choice
from runner.config.rules.batches import affordable
from runner.error_texts import is_out_of_memory
from runner.errors import RequestError
from runner.privacy.example_gradients.grad_sample import per_example_gradients
from runner.privacy.example_gradients.per_example import Forward, Loss, trainable
from runner.privacy.independence.mixing_check import check_examples_independent, fixed_randomness
from runner.privacy.independence.refusals import ExamplesMixed, NoUsableGradSample
from runner.privacy.mechanism.random_layers import drawing

_SEED = 20_261
_ROUNDS = 5
_SECONDS = 0.5
"""No further round begins after this time."""
_MARGIN = 1.25
"""A way that needs more memory has to be faster by this much, so that noise in a measurement seldom decides."""
_FEW = 4
"""Examples by which it is judged how long a micro-batch takes."""
_SLOWEST = 3.5
"""The slowest way takes at most this many times as long as the fastest (docs/results/2026-11-23-dp-step.md)."""
_MOST_ROWS = 1 << 28
"""Numbers that the gradients of one micro-batch may hold; beyond, only ``ghost`` is sure to fit (1 GiB in float32)."""


def working_grad_samples(
    model: nn.Module,
    *,
    image_shape: tuple[int, int, int],
    forward: Forward,
    batch_size: int,
    copies: int = 1,
) -> list[str]:
    """The ways worth trying that ``model`` (on images [C, H, W]) can take, those with little memory first.

    ``hooks`` records what ``ghost`` does and does more with it, so it is tried only where ``ghost`` has no rules.
    Where examples meet in a batch, ``functional`` alone is left.  ``batch_size`` and ``copies`` are those of the run's
    micro-batches.

    Raises:
        RequestError: no way works; why ``functional``, which asks the least of a model, does not, or where examples
            meet in a model that it cannot take.
    """
    works: list[str] = []
    refusals: dict[str, RequestError] = {}
    for way in ("ghost", "functional", "hooks"):
        if way == "hooks" and ("ghost" in works or isinstance(refusals["ghost"], ExamplesMixed)):
            break
        try:
            check_examples_independent(
                model, grad_sample=way, image_shape=image_shape, forward=forward, batch_size=batch_size, copies=copies
            )
            works.append(way)
        except NoUsableGradSample:
            raise
        except RequestError as refusal:
            refusals[way] = refusal
    if not works:
        raise refusals["ghost" if isinstance(refusals["ghost"], ExamplesMixed) else "functional"]
    return works


def autoselect_grad_sample(
    model: nn.Module,
    ways: Sequence[str],
    *,
    image_shape: tuple[int, ...],
    batch_size: int,
    loss: Loss,
    forward: Forward,
    channels_last: bool,
    measure: bool,
    copies: int = 1,
    most_seconds: float = 20.0,
) -> Choice[str]:
    """One of ``ways``, measured on a micro-batch of ``batch_size`` examples of ``copies`` random images.

    On fewer, where that many would take more than ``most_seconds``.  The model and the random state stay as they were.
    ``image_shape`` is that of what the model is given of one image.  With ``measure=False`` the first of ``ways`` is
    taken.
    """
    if len(ways) == 1:
        return Choice(ways[0], "rule", "the only way that works for this model")
    if not measure:
        return Choice(ways[0], "rule", "the first that works, because deterministic=true rules out measuring")
    numbers = batch_size * sum(parameter.numel() for parameter in trainable(model).values())
    if "ghost" in ways and numbers > _MOST_ROWS:
        return Choice("ghost", "rule", f"others would hold {numbers:.1e} numbers at once")
    examples = batch_size

    def measured(tried: Sequence[str], examples: int) -> dict[str, float]:
        images = _images(model, examples * copies, image_shape, channels_last)
        return _measure(model, tried, images, loss, forward, copies)

    if batch_size > _FEW:
        each = measured(ways[:1], _FEW)[ways[0]] / _FEW
        # once to warm up and once to count, of which any way but the first may be the slowest
        rounds = 2 * (1 + _SLOWEST * (len(ways) - 1))
        if math.isfinite(each):
            examples = affordable(batch_size, seconds_each=rounds * each, seconds=most_seconds, least=_FEW)
    seconds = measured(ways, examples)
    best = ways[0]
    for way in ways[1:]:
        if seconds[way] * _MARGIN < seconds[best]:
            best = way
    formatted = {
        way: f"{1e3 * found:.2f} ms" if math.isfinite(found) else "out of memory" for way, found in seconds.items()
    }
    figures = ", ".join(f"{way} {formatted[way]}" for way in ways)
    fewer = "" if examples == batch_size else f", of a micro-batch of {batch_size * copies}: hardware.probe_seconds"
    return Choice(best, "measurement", f"{figures} for {examples * copies} random images{fewer}")


def _images(model: nn.Module, size: int, shape: tuple[int, ...], channels_last: bool) -> Tensor:
    first = next(iter(trainable(model).values()))
    images = torch.randn(size, *shape, generator=torch.Generator().manual_seed(_SEED)).to(first.device, first.dtype)
    return images.contiguous(memory_format=torch.channels_last) if channels_last else images


def _measure(
    model: nn.Module, ways: Sequence[str], images: Tensor, loss: Loss, forward: Forward, copies: int
) -> dict[str, float]:
    """The least seconds that each way took for gradients, norms and sum, in turns against drifts of the machine.

    It is infinity where the memory did not suffice.
    """
    gradients = {way: per_example_gradients(way, model, loss=loss, forward=forward, copies=copies) for way in ways}
    labels = torch.zeros(len(images) // copies, dtype=torch.int64, device=images.device)
    best = dict.fromkeys(ways, math.inf)

    def once(way: str) -> float:
        _wait(images.device)
        start = time.perf_counter()
        try:
            found = gradients[way](images, labels).gradients
            norms = torch.linalg.vector_norm(torch.stack([each.norms() for each in found]), dim=0)
            for each in found:
                each.weighted_sum(norms, None)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return math.inf
        _wait(images.device)
        return time.perf_counter() - start

    with fixed_randomness(images.device), drawing(model, len(images)):
        for way in ways:
            once(way)
        start = time.perf_counter()
        for _ in range(_ROUNDS):
            for way in ways:
                best[way] = min(best[way], once(way))
            if time.perf_counter() - start > _SECONDS:
                break
    return best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
