"""The runner itself, whole: its loop, its recorder and its files, as ``python -m runner`` puts them together."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from runner.autotune.resolve import resolve_plan
from runner.bench.interleaving import TimedSteps
from runner.bench.task import Task, configure
from runner.data.open import open_data
from runner.planning.build import build_plan
from runner.planning.device import detect_device
from runner.processes.signals import StopRequest
from runner.records.console import make_console
from runner.records.metrics import Record
from runner.records.recorder import Recorder
from runner.records.sink import RunInfo
from runner.training.distributed.world import SingleProcess, torch_device
from runner.training.loop import Loop
from runner.training.parts import build_parts
from runner.training.torch_settings import torch_settings

if TYPE_CHECKING:
    from runner.training.parts import Parts


class _Pause:
    """A tracker that makes the run wait for its turn at each block's end."""

    run_id: str | None = None

    def __init__(self, timed_steps: TimedSteps, parts: Parts) -> None:
        self._timed_steps = timed_steps
        self._parts = parts

    def start(self, info: RunInfo) -> None:
        """Nothing to begin."""

    def log(self, record: Record) -> None:
        """Hand over a loss in a proof; else pause where a block ends."""
        if self._parts.compiled is not None:
            self._timed_steps.facts["compile_seconds"] = self._parts.compiled.seconds
        if self._timed_steps.proving:
            self._timed_steps.note(record["loss"])
        elif record["step"] % self._timed_steps.block == 0:
            self._timed_steps.pause()

    def finish(self, summary: Mapping[str, Any], exit_code: int) -> None:
        """Nothing to end."""


def train(task: Task, prepared: Path, timed_steps: TimedSteps, options: tuple[str, ...]) -> None:
    """Train the task's recipe changed by ``options``, which are overrides; ``prepared`` is not needed."""
    proof = ("trainer.log_every=1",) if timed_steps.proving else ()
    config = configure((*task.request, f"hardware.threads={torch.get_num_threads()}", *options, *proof))
    data = open_data(config.data)
    device = detect_device(config.hardware)
    world = SingleProcess(torch_device(device.kind))
    plan = resolve_plan(build_plan(config, data, device, processes=1), config, device, world)
    with tempfile.TemporaryDirectory() as folder, torch_settings(plan):
        parts = build_parts(plan, data, world)
        recorder = Recorder(Path(folder), [_Pause(timed_steps, parts)], make_console(True))
        loop = Loop(parts, data, recorder, Path(folder))
        with StopRequest(alone=True) as stop:
            loop.fit(stop)
