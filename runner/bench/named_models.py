"""Duels about models that are named when the benchmark is asked for: ``resnet18@32x16``."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from runner.bench.paired_benchmark import Contender, Result, run_paired
from runner.bench.section import Section, paired_section
from runner.bench.settings import Settings
from runner.bench.task import Task, prepare
from runner.errors import RequestError

_PROOF_STEPS = 3
"""Convolutions and BatchNorm over few images multiply rounding with every update: after twenty, float32 in one memory
format is a thousandth from float32 in the other.  A recipe that differs shows in the second."""

FLOAT32 = 3e-4
"""Largest relative difference of a loss between float32 recipes over those updates; EfficientNet comes to 8e-5."""

SIXTEEN_BITS = 0.05
"""The same for 16-bit types, of which bfloat16 has eight bits; EfficientNet comes to 0.027."""

INIT_SCALE = 1024
"""First loss scale of float16: from 65,536 EfficientNet would skip the updates of the proof."""

_LARGE = 128
"""Pixels from which a GPU is busy with an update for tens of milliseconds."""

_LARGE_BLOCK, _SMALL_BLOCK = 10, 100


@dataclass(frozen=True, kw_only=True)
class PairedBenchmark:
    """What was found about one model."""

    task: Task
    prepared: Path
    """File of ``runner.bench.task.prepare``."""
    results: list[Result]
    """On a CPU their ``seconds`` are processor time, which other programs on the machine disturb least."""

    def section(self, part: str, *, title: str, about: str, ours: Contender, control: Contender) -> Section:
        """The table; ``title`` stands before the model's name, and ``about`` before what was timed."""
        task = self.task
        clock = "Processor time of all threads." if task.device == "cpu" else "CUDA events around the block."
        return paired_section(
            self.results,
            name=f"{part}_{task.name}" if task.device == "cpu" else f"{part}_{task.device}_{task.name}",
            title=f"{title}: {task.about}",
            about=f"{about}  {clock}",
            ours=ours.name,
            control=control.name,
        )


def comparisons(
    settings: Settings, part: str, contenders: Sequence[Contender], *, on_cuda: Sequence[Contender] = ()
) -> Iterator[PairedBenchmark]:
    """One for each of ``settings.models``, between ``contenders`` and, on a GPU, those that are ``on_cuda`` as well.

    Raises:
        RequestError: a model is not named as ``parse_model`` reads it.
    """
    for asked in settings.models:
        task = parse_model(asked, device=settings.device)
        prepared = Path(settings.work) / f"{part}_{task.name}.pt"
        prepare(task, prepared)
        if task.device == "cpu":
            timed = run_paired(task, prepared, contenders, settings)
            timed = [dataclasses.replace(result, seconds=result.cpu_seconds) for result in timed]
        else:
            timed = run_paired(task, prepared, (*contenders, *on_cuda), settings)
        yield PairedBenchmark(task=task, prepared=prepared, results=timed)


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
        overrides=(
            f"data.image_size={size}",
            f"model={model}",
            f"precision.init_scale={INIT_SCALE}",
            *(one_by_one if device == "cpu" else ()),
        ),
        batch=batch,
        block=1 if device == "cpu" else _LARGE_BLOCK if size >= _LARGE else _SMALL_BLOCK,
        proof_steps=_PROOF_STEPS,
        device=device,
    )
