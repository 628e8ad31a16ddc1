"""Each recipe with and without torch's compiler: what it gains an update, and after how many it has paid for itself."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from runner.bench.duel import Result, run_duel
from runner.bench.recipes import AGAIN, FIRST, RECIPES, by_processor_time, clock_of, parse_model, section_name
from runner.bench.section import Section, duel_section
from runner.bench.settings import Settings
from runner.bench.task import prepare

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
    for asked in settings.models:
        task = parse_model(asked, device=settings.device)
        prepared = Path(settings.work) / f"compiled_{task.name}.pt"
        prepare(task, prepared)
        contenders = (FIRST, AGAIN, *RECIPES, *_COMPILED, *(_GRAPHS if task.device == "cuda" else ()))
        timed = run_duel(task, prepared, contenders, settings)
        if task.device == "cpu":
            timed = [by_processor_time(result) for result in timed]
        section = duel_section(
            timed,
            name=section_name("compiled", task),
            title=f"Compiled recipes: {task.about}",
            about=f"The same with `hardware.compile=true`; the proof is that of the recipes above.  {clock_of(task)}",
            ours=_COMPILED[0].name,
            control=AGAIN.name,
        )
        yield dataclasses.replace(section, notes=(*section.notes, *_costs(timed)))


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
