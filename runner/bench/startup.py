"""Start-up time, from the command to the first update: the runner's command line and minimal scripts."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from runner.bench.contender_process import Order
from runner.bench.paired_ratios import paired_difference, paired_ratio
from runner.bench.section import Section
from runner.bench.settings import Settings
from runner.bench.task import TASKS, prepare
from runner.errors import RunError

_PATIENCE = 120.0
_MODULES = {"bare script": "bare", "runner's command line": None, "Lightning script": "lightning_loop"}
"""Which contender each is; None for the whole command line."""


def measure(settings: Settings) -> Iterator[Section]:
    """One section; each sample is a fresh process."""
    task = TASKS["tiny_mlp"]
    work = Path(settings.work)
    prepared = work / "startup.pt"
    prepare(task, prepared)

    def script(module: str) -> float:
        order = Order(
            contender=module,
            options=(),
            task=task,
            prepared=str(prepared),
            threads=settings.threads,
            proving=False,
            block=1,
        )
        return _until_first_line(
            [sys.executable, "-m", "runner.bench.contender_process", order.to_json()], settings.threads
        )

    def command_line(index: int) -> float:
        run_dir = work / f"startup-{index}"
        command = [sys.executable, "-m", "runner", *task.request, "trainer.log_every=1", f"hydra.run.dir={run_dir}"]
        return _until_file(command, run_dir / "metrics.jsonl", settings.threads)

    names = tuple(_MODULES)
    times: dict[str, list[float]] = {name: [] for name in names}
    script("bare")  # what the file system has to read for the first time is nobody's start-up
    for index in range(settings.launches * settings.rounds):
        for name in names if index % 2 == 0 else reversed(names):
            module = _MODULES[name]
            times[name].append(command_line(index) if module is None else script(module))
    yield _section(times, names)


def _section(times: dict[str, list[float]], names: Sequence[str]) -> Section:
    bare, lightning = times[names[0]], times[names[2]]
    rows = [
        (
            name,
            f"{sorted(times[name])[len(times[name]) // 2]:.2f} s",
            "" if name == names[0] else str(paired_difference(times[name], bare)),
            "" if name == names[2] else str(paired_ratio(times[name], lightning)),
        )
        for name in names
    ]
    return Section(
        name="startup",
        title="Start-up: from the command to the end of the first update",
        about="Wall time of a fresh process.  The runner's includes composing, checking, its folder and its plan.",
        columns=("what", "median", "seconds more than the bare script", "over Lightning"),
        rows=tuple(rows),
        samples=tuple(
            {"section": "startup", "contender": name, "round": index, "seconds": seconds}
            for name in names
            for index, seconds in enumerate(times[name])
        ),
    )


def _until_first_line(command: Sequence[str], threads: int) -> float:
    began = time.perf_counter()
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=_environment(threads)
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        seconds = time.perf_counter() - began
        process.kill()
    if not line:
        raise RunError(f"{' '.join(command)} ended before its first update")
    return seconds


def _until_file(command: Sequence[str], path: Path, threads: int) -> float:
    began = time.perf_counter()
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=_environment(threads),
    ) as process:  # fmt: skip
        while not (path.exists() and path.stat().st_size):
            if process.poll() is not None or time.perf_counter() - began > _PATIENCE:
                process.kill()
                raise RunError(f"{' '.join(command)} made no first update")
            time.sleep(0.002)
        seconds = time.perf_counter() - began
        process.kill()
    return seconds


def _environment(threads: int) -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": str(threads)}
