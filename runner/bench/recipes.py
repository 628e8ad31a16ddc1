"""Precision and memory format for a model on this machine: the table from which to pick a recipe."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

from runner.bench.duel import Contender, Result, run_duel
from runner.bench.section import Section, duel_section
from runner.bench.settings import Settings
from runner.bench.task import Task, prepare
from runner.config.errors import RequestError

_PROOF_STEPS = 3
"""Convolutions and BatchNorm over few images multiply rounding with every update: after twenty, float32 in one memory
format is a thousandth from float32 in the other.  A recipe that differs shows in the second."""

_FLOAT32 = 3e-4
"""Largest relative difference of a loss between float32 recipes over those updates; EfficientNet comes to 8e-5."""

SIXTEEN_BITS = 0.05
"""The same for 16-bit types, of which bfloat16 has eight bits; EfficientNet comes to 0.027."""

_LARGE = 128
"""Pixels from which a GPU is busy with an update for tens of milliseconds."""

_LARGE_BLOCK, _SMALL_BLOCK = 10, 100

FIRST = Contender(
    name="fp32, contiguous", module="through_runner", options=("hardware.channels_last=false",), tolerance=_FLOAT32
)
AGAIN = dataclasses.replace(FIRST, name="fp32, contiguous, again")
RECIPES = (
    dataclasses.replace(FIRST, name="fp32, channels_last", options=("hardware.channels_last=true",)),
    *(
        Contender(
            name=f"{short}, {layout}",
            module="through_runner",
            options=(f"precision={short}", f"hardware.channels_last={str(layout == 'channels_last').lower()}"),
            tolerance=SIXTEEN_BITS,
        )
        for short in ("bf16", "fp16")
        for layout in ("contiguous", "channels_last")
    ),
)
_OPEN = "hardware.channels_last=null"
_AUTO = Contender(
    name="precision=auto", module="through_runner", options=("precision=auto", _OPEN), tolerance=SIXTEEN_BITS
)
_FORMATS = tuple(
    Contender(
        name=f"{short}, hardware=auto",
        module="through_runner",
        options=(f"precision={short}", _OPEN),
        tolerance=SIXTEEN_BITS,
    )
    for short in ("fp32", "bf16")
)
"""A named type, and the memory format left to the machine."""


def measure(settings: Settings) -> Iterator[Section]:
    """One section for each of ``settings.models``.

    Raises:
        RequestError: a model is not named as ``parse_model`` reads it.
    """
    for asked in settings.models:
        task = parse_model(asked, device=settings.device)
        prepared = Path(settings.work) / f"recipes_{task.name}.pt"
        prepare(task, prepared)
        timed = run_duel(task, prepared, (FIRST, AGAIN, *RECIPES, *_FORMATS, _AUTO), settings)
        if task.device == "cpu":
            timed = [by_processor_time(result) for result in timed]
        section = duel_section(
            timed,
            name=section_name("recipes", task),
            title=f"Recipes: {task.about}",
            about=f"The runner throughout; what differs is the precision and the memory format.  {clock_of(task)}"
            "  Before that, the losses of three updates agreed: to 3e-4 between the float32 rows,"
            " where twice the learning rate shows as 9e-4 and more, and to 5 % with 16 bits; what those cost in"
            " accuracy is a question for `sweep=precision`.",
            ours=_AUTO.name,
            control=AGAIN.name,
        )
        yield section


def section_name(part: str, task: Task) -> str:
    """Of a section about ``task``; those of a GPU have its kind in their names."""
    return f"{part}_{task.name}" if task.device == "cpu" else f"{part}_{task.device}_{task.name}"


def clock_of(task: Task) -> str:
    """A sentence about what is timed."""
    return "Processor time of all threads." if task.device == "cpu" else "CUDA events around the block."


def by_processor_time(result: Result) -> Result:
    """What other programs on the machine disturb least; all contenders use the same threads."""
    return dataclasses.replace(result, seconds=result.cpu_seconds)


def parse_model(asked: str, *, device: str) -> Task:
    """The task that ``MODEL@SIZExBATCH``, such as ``resnet18@32x16``, names: images of SIZE pixels, BATCH in an update.

    On a CPU a pause follows each update; on a GPU blocks take the half second and more that its energy counter needs.

    Raises:
        RequestError: it is not of that form.
    """
    found = re.fullmatch(r"(\w+)@(\d+)x(\d+)", asked)
    if found is None:
        raise RequestError("--models", asked, "MODEL@SIZExBATCH, such as resnet18@32x16")
    model, size, batch = found[1], int(found[2]), int(found[3])
    # not the same few images after each pause, on which rounding grows
    one_by_one = (f"data.num_train={20 * batch}", "trainer.log_every=1")
    return Task(
        name=model,
        about=f"{model}, {size} px, batch {batch}",
        overrides=(f"data.image_size={size}", f"model={model}", *(one_by_one if device == "cpu" else ())),
        batch=batch,
        block=1 if device == "cpu" else _LARGE_BLOCK if size >= _LARGE else _SMALL_BLOCK,
        proof_steps=_PROOF_STEPS,
        device=device,
    )
