"""Predictions and timing of a model in one pass over images."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from runner.records.progress import rate_text
from runner.tasks.losses import log_probabilities
from runner.training.eval_chunks import chunked_logits, forward_logits

if TYPE_CHECKING:
    from runner.data.feed import Feed
    from runner.training.distributed.world import World
    from runner.training.precision.precision import Precision

ENOUGH_SECONDS = 1.0
"""Passes are repeated until they took this long together, so that the speed on few images is not one of start-up."""
MOST_PASSES = 20
LEAST_PASSES = 3
"""Fewer say nothing of how they differ."""
PATIENCE = 5.0
"""Seconds that the least may take together."""
LATENCY_IMAGES = 200
LATENCY_SECONDS = 10.0
WARM_UP = 10

_Batch = tuple[NDArray[Any], ...]
"""Predicted class of each of its images and the logarithm of its probability, and the sum of their losses."""


@dataclass(frozen=True, kw_only=True)
class ModelOutputs:
    """What a model says of n images, in their order."""

    predicted: NDArray[np.int64]
    """The most probable class, [n]."""
    confidence: NDArray[np.float64]
    """Its probability, [n]."""
    loss: float
    """Mean cross-entropy in nats, summed batch by batch as the run sums its own."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """How fast the images went through the model, with everything between decoded pixels and probabilities."""

    images_per_second: float
    """Median of the passes, over all processes."""
    images_per_second_p25: float
    """Lower quartile of the passes."""
    images_per_second_p75: float
    """Upper quartile: half of the passes lie between the two."""
    passes: int
    latency_p50_ms: float
    """Median time of one image by itself."""
    latency_p95_ms: float
    latency_images: int

    @property
    def spread(self) -> str:
        """The passes, for people: how many, and the quartiles where there are several."""
        if self.passes == 1:
            return "1 pass"
        low, high = rate_text(self.images_per_second_p25), rate_text(self.images_per_second_p75)
        return f"quartiles {low}-{high} of {self.passes} passes"


def predict(
    model: torch.nn.Module,
    feed: Feed,
    examples: int,
    *,
    batch_size: int,
    precision: Precision,
    world: World,
    progress: Callable[[int], None],
) -> ModelOutputs:
    """Run ``model``, in eval mode, over ``examples`` rows of ``feed``.

    Whole batches are dealt to the processes, so that each batch is the one that a single process computes, down to its
    bits, and none is padded: every image counts once.

    Args:
        model: Gives logits [b, K].
        feed: Gives images and labels.
        examples: How many rows.
        batch_size: Images at a time.
        precision: Context of the forward pass.
        world: The processes; each gets the whole result.
        progress: Told how many images all processes have done by now.
    """
    found: list[tuple[torch.Tensor, ...]] = []
    done = 0
    with torch.inference_mode():
        for start, stop in _spans(examples, batch_size, world):
            images, labels = feed.span(start, stop)
            logits = chunked_logits(model, images, precision)
            # cross-entropy in its two parts, because the first also tells the confidence
            logs = log_probabilities(logits)
            nats = torch.nn.functional.nll_loss(logs, labels, reduction="none").sum()
            found.append((logits.argmax(1), logs.amax(1), nats))
            done += (stop - start) * world.size
            progress(min(done, examples))
    shares = world.gather([tuple(part.cpu().numpy() for part in batch) for batch in found])
    predicted, logs_of_predicted, losses = zip(*_in_order(shares), strict=True)
    return ModelOutputs(
        predicted=np.concatenate(predicted),
        confidence=np.exp(np.concatenate(logs_of_predicted), dtype=np.float64),
        # one by one, as evaluation in training adds them up
        loss=sum(map(float, losses)) / examples,
    )


def measure_speed(
    model: torch.nn.Module, feed: Feed, examples: int, *, batch_size: int, precision: Precision, world: World
) -> Speed:
    """Time whole passes over the images, and single images one by one in the first process.

    Latency is from a stored pixel to the probability on the host, with one image in a batch.
    """
    batches = _spans(examples, batch_size, world)

    def one_pass() -> float:
        world.barrier()
        start = time.perf_counter()
        with torch.inference_mode():
            for span in batches:
                last = chunked_logits(model, feed.span(*span)[0], precision).argmax(1)
            if batches:
                last.cpu()  # waits for the device
        return max(world.gather(time.perf_counter() - start))

    one_pass()  # the first one pays for lazy set-up
    seconds: list[float] = []
    while len(seconds) < MOST_PASSES and sum(seconds) < (ENOUGH_SECONDS if len(seconds) >= LEAST_PASSES else PATIENCE):
        seconds.append(one_pass())
    single = np.array(_latencies(model, feed, examples, precision) if world.is_main else [0.0])
    world.barrier()
    rate, slow, fast = (examples / float(np.percentile(seconds, share)) for share in (50, 75, 25))
    return Speed(
        images_per_second=rate,
        images_per_second_p25=slow,
        images_per_second_p75=fast,
        passes=len(seconds),
        latency_p50_ms=1e3 * float(np.percentile(single, 50)),
        latency_p95_ms=1e3 * float(np.percentile(single, 95)),
        latency_images=len(single),
    )


class ProgressLine:
    """Says on standard error how far a long pass is, every few seconds."""

    def __init__(self, examples: int, *, silent: bool, seconds: float = 5.0) -> None:
        self._examples = examples
        self._silent = silent
        self._every = seconds
        self._start = self._said = time.monotonic()

    def __call__(self, done: int) -> None:
        """Tell that ``done`` images are done."""
        now = time.monotonic()
        if self._silent or now - self._said < self._every:
            return
        self._said = now
        rate = done / (now - self._start)
        left = (self._examples - done) / rate
        print(f"{done:,} of {self._examples:,} images, {rate:,.0f}/s, {left:,.0f} s left", file=sys.stderr, flush=True)


def _spans(examples: int, batch_size: int, world: World) -> list[tuple[int, int]]:
    """First row and the row after the last of this process's batches: whole ones, assigned round-robin."""
    starts = range(0, examples, batch_size)[world.rank :: world.size]
    return [(start, min(start + batch_size, examples)) for start in starts]


def _latencies(model: torch.nn.Module, feed: Feed, examples: int, precision: Precision) -> list[float]:
    seconds: list[float] = []
    end = time.perf_counter() + LATENCY_SECONDS
    with torch.inference_mode():
        for number in range(WARM_UP + LATENCY_IMAGES):
            row = number % examples
            start = time.perf_counter()
            forward_logits(model, feed.span(row, row + 1)[0], precision).softmax(1).cpu()
            seconds.append(time.perf_counter() - start)
            if time.perf_counter() > end and len(seconds) > WARM_UP:
                break
    return seconds[WARM_UP:]


def _in_order(shares: list[list[_Batch]]) -> list[_Batch]:
    """Batches that processes took round-robin, back in their original order."""
    if len(shares) == 1:
        return shares[0]
    rounds = max(len(share) for share in shares)
    return [share[number] for number in range(rounds) for share in shares if number < len(share)]
