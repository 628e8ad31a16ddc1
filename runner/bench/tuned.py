"""The runner beside scripts tuned by hand for one model in 16 bits, and beside the loops that people start from."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterator, Sequence

from runner.bench.named_models import SIXTEEN_BITS, PairedBenchmark, comparisons
from runner.bench.paired_benchmark import Contender, Result
from runner.bench.roofline import measure_limits, shares, work_of
from runner.bench.section import Section
from runner.bench.settings import Settings
from runner.bench.task import load_prepared

_HAND = Contender(name="by hand, bf16", module="by_hand", options=("bf16",), tolerance=SIXTEEN_BITS)
_AGAIN = dataclasses.replace(_HAND, name="by hand, bf16, again")
_RUNNER = dataclasses.replace(_HAND, name="runner, bf16", module="through_runner", options=("precision=bf16",))
_EVERYWHERE = (
    _HAND,
    _AGAIN,
    _RUNNER,
    dataclasses.replace(
        _HAND, name="Lightning, bf16, same input", module="lightning_loop", options=("same_input", "bf16")
    ),
    dataclasses.replace(_HAND, name="fp32, in planes", options=("contiguous",)),
)
_ON_CUDA = (
    dataclasses.replace(_HAND, name="by hand, fp16", options=("fp16",)),
    dataclasses.replace(_RUNNER, name="runner, fp16", options=("precision=fp16",)),
    dataclasses.replace(
        _RUNNER, name="runner, bf16, CUDA graphs", options=("precision=bf16", "hardware.cuda_graphs=true")
    ),
)
"""What has no counterpart on a CPU, where torch's float16 is slower than float32 by far."""


def measure(settings: Settings) -> Iterator[Section]:
    """One section for each of ``settings.models``.

    Raises:
        RequestError: a model is not named as ``parse_model`` reads it.
    """
    for comparison in comparisons(settings, "tuned", _EVERYWHERE, on_cuda=_ON_CUDA):
        section = comparison.section(
            "tuned",
            title="Tuned by hand",
            about="The scripts have the model in channels_last, normalised images on the device, kernels searched for"
            " and a fused optimizer; *fp32, in planes* is the same in float32 and NCHW.  The losses of three updates"
            " had to agree to 5 %, which other kernels in 16 bits may take; dropout draws the same in all.",
            ours=_RUNNER,
            control=_AGAIN,
        )
        yield dataclasses.replace(
            section, notes=(*section.notes, *_differences(comparison.results), *_shares(comparison))
        )


def _differences(timed: Sequence[Result]) -> Iterator[str]:
    """A sentence about how well the losses of the proof agree."""
    first, *others = timed
    largest = {
        result.contender.name: max(
            abs(loss - other) / abs(other) for loss, other in zip(result.losses, first.losses, strict=True)
        )
        for result in others
    }
    said = ", ".join(f"{name} {difference:.1e}" if difference else f"{name} 0" for name, difference in largest.items())
    yield f"Largest relative difference of a loss from that of {first.contender.name}: {said}."


def _shares(comparison: PairedBenchmark) -> Iterator[str]:
    """A sentence about the runner's rate beside what the device can do."""
    seconds = next(result.seconds for result in comparison.results if result.contender is _RUNNER)
    if not seconds:
        return
    given = load_prepared(comparison.prepared)
    channels, height, width = given.images.shape[1:]
    work = work_of(given.model.cpu(), (channels, height, width))
    said = shares(comparison.task.batch / statistics.median(seconds), work, measure_limits(comparison.task.device))
    yield f"The runner's {said}."
