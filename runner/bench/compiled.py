"""Each recipe with and without torch's compiler: what it gains an update, and after how many it has paid for itself."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterator, Sequence

from runner.bench.named_models import comparisons
from runner.bench.paired_benchmark import Result
from runner.bench.recipes import AGAIN, FIRST, RECIPES
from runner.bench.section import Section
from runner.bench.settings import Settings

_COMPILED = tuple(
    dataclasses.replace(
        contender, name=f"{contender.name}, compiled", options=(*contender.options, "hardware.compile=true")
    )
    for contender in (FIRST, *RECIPES)
)
_GRAPHS = tuple(
    dataclasses.replace(
        contender, name=f"{contender.name}, CUDA graphs", options=(*contender.options, "hardware.cuda_graphs=true")
    )
    for contender in RECIPES
)


def measure(settings: Settings) -> Iterator[Section]:
    """One section for each of ``settings.models``.

    Raises:
        RequestError: a model is not named as ``parse_model`` reads it.
    """
    for comparison in comparisons(settings, "compiled", (FIRST, AGAIN, *RECIPES, *_COMPILED), on_cuda=_GRAPHS):
        section = comparison.section(
            "compiled",
            title="Compiled recipes",
            about="The same with `hardware.compile=true`; the proof is that of the recipes above.",
            ours=_COMPILED[0],
            control=AGAIN,
        )
        yield dataclasses.replace(section, notes=(*section.notes, *_costs(comparison.results)))


def _costs(timed: Sequence[Result]) -> Iterator[str]:
    """What compiling took, and the updates after which that has been gained, a sentence for each."""
    median = {result.contender.name: statistics.median(result.seconds) for result in timed if result.seconds}
    for result in timed:
        name = result.contender.name
        if result.compile_seconds is None or name not in median:
            continue
        gain = median[name.removesuffix(", compiled")] - median[name]
        paid = f"paid for after {result.compile_seconds / gain:,.0f} updates" if gain > 0 else "which gains nothing"
        yield f"{name}: {result.compile_seconds:.0f} s to compile, {paid}."
