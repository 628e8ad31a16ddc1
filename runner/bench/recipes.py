"""Precision, memory format and compilation for one model on this machine: the table from which to pick a recipe."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from runner.bench.duel import Contender, run_duel
from runner.bench.section import Section, duel_section
from runner.bench.settings import Settings
from runner.bench.task import TASKS, prepare

_FIRST = Contender(name="fp32, contiguous", module="through_runner", options=("hardware.channels_last=false",))
_AGAIN = Contender(name="fp32, contiguous, again", module="through_runner", options=_FIRST.options)
_RECIPES = (
    Contender(name="fp32, channels_last", module="through_runner", options=("hardware.channels_last=true",)),
    *(
        Contender(
            name=f"{short}, {layout}",
            module="through_runner",
            options=(f"precision={short}", f"hardware.channels_last={str(layout == 'channels_last').lower()}"),
            exact=False,
        )
        for short in ("bf16", "fp16")
        for layout in ("contiguous", "channels_last")
    ),
)


def measure(settings: Settings) -> Iterator[Section]:
    """One section: ResNet-18 on 32 px images."""
    task = TASKS["resnet18"]
    prepared = Path(settings.work) / "recipes.pt"
    prepare(task, prepared)
    results = run_duel(
        task,
        prepared,
        (_FIRST, _AGAIN, *_RECIPES),
        threads=settings.threads,
        launches=settings.launches,
        rounds=settings.rounds,
    )
    yield duel_section(
        results,
        name="recipes",
        title=f"Recipes: {task.about}",
        about="The runner throughout; what differs is the precision and the memory format.  The float32 rows gave the"
        " same losses; 16-bit rows cannot, and what they cost in accuracy is a question for `sweep=precision`.",
        ours="fp32, channels_last",
        control=_AGAIN.name,
    )
