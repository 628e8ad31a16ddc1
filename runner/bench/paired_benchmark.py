"""Paired benchmarks: fresh processes, a proof of equal results, then blocks in A B B A order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.bench.contender_process import Order
from runner.bench.settings import Settings
from runner.bench.task import Task
from runner.errors import RunError

FLOAT32 = 1e-4
"""Largest relative difference of a loss in the proof: rounding of float32 over the updates of a proof stays below."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One way to train."""

    name: str
    """For the table."""
    module: str
    """In ``runner.bench.contenders``."""
    options: tuple[str, ...] = ()
    tolerance: float | None = FLOAT32
    """Largest relative difference of a loss from the first contender's; None where they need not be alike."""
    warm_up: int = 1
    """Blocks before the first that counts."""


@dataclass(kw_only=True)
class Result:
    """What one contender did."""

    contender: Contender
    losses: list[float]
    same: bool
    """Whether its losses are those of the first contender; without that no time counts."""
    compile_seconds: float | None = None
    """What its compiler took in the proof, alone on the machine and with nothing compiled before."""
    seconds: list[float] = field(default_factory=list)
    """Per update: one number a round, the mean of its two blocks."""
    cpu_seconds: list[float] = field(default_factory=list)
    joules: list[float] = field(default_factory=list)
    """Energy of the GPU per update, like ``seconds``; empty where nothing reads it."""
    peak_bytes: list[int] = field(default_factory=list)
    """Most memory of each of its processes: resident, or allocated on the GPU."""


def run_paired(task: Task, prepared: Path, contenders: Sequence[Contender], settings: Settings) -> list[Result]:
    """Prove, then time as many rounds in as many sets of fresh processes as ``settings`` say.

    A round visits every contender in order and then again in reverse (A B C C B A), so that drift within a round
    cancels.  The first blocks of a process are its warm-up and are not counted.

    Raises:
        RunError: a contender's process died.
    """
    results = [_prove(task, prepared, contender, settings.threads) for contender in contenders]
    first = results[0].losses
    for result in results:
        tolerance = result.contender.tolerance
        result.same = tolerance is None or _agree(result.losses, first, tolerance)
    fair = [result for result in results if result.same]
    for _ in range(settings.launches):
        with ExitStack() as stack:
            workers = [
                stack.enter_context(_worker(task, prepared, result.contender, settings.threads, proving=False))
                for result in fair
            ]
            for worker in workers:
                worker.receive()
            for _ in range(settings.rounds):
                visits: list[list[dict[str, float]]] = [[] for _ in fair]
                for index in [*range(len(fair)), *reversed(range(len(fair)))]:
                    visits[index].append(workers[index].block())
                for result, visit in zip(fair, visits, strict=True):
                    for key in visit[0]:  # fields of Result
                        getattr(result, key).append(sum(block[key] for block in visit) / len(visit) / task.block)
            for result, worker in zip(fair, workers, strict=True):
                result.peak_bytes.append(int(worker.end()["peak_bytes"]))
    return results


def _agree(losses: Sequence[float], first: Sequence[float], tolerance: float) -> bool:
    return len(losses) == len(first) and all(
        abs(loss - other) <= tolerance * abs(other) for loss, other in zip(losses, first, strict=True)
    )


def _prove(task: Task, prepared: Path, contender: Contender, threads: int) -> Result:
    if contender.tolerance is None:
        return Result(contender=contender, losses=[], same=True)
    with _worker(task, prepared, contender, threads, proving=True) as worker:
        said = worker.receive()
        return Result(
            contender=contender, losses=said["losses"], same=False, compile_seconds=said.get("compile_seconds")
        )


class _Worker:
    def __init__(self, process: subprocess.Popen[str], name: str) -> None:
        self._process = process
        self._name = name

    def receive(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RunError(f"contender {self._name} ended with exit code {self._process.wait()}")
        return json.loads(line)

    def block(self) -> dict[str, float]:
        """One block of updates."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return self.receive()

    def end(self) -> Any:
        """Its last words."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self.receive()


@contextmanager
def _worker(task: Task, prepared: Path, contender: Contender, threads: int, *, proving: bool) -> Iterator[_Worker]:
    order = Order(
        contender=contender.module,
        options=contender.options,
        task=task,
        prepared=str(prepared),
        threads=threads,
        proving=proving,
        block=task.block,
        warm_up=contender.warm_up,
    )
    place = prepared.with_name(f"{task.name}-{contender.name.replace(' ', '_').replace('/', '_')}")
    log = place.with_suffix(".log")
    with (
        log.open("a", encoding="utf-8") as errors,
        subprocess.Popen(
            [sys.executable, "-m", "runner.bench.contender_process", order.to_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": str(threads), "TORCHINDUCTOR_CACHE_DIR": str(place)},
        ) as process,
    ):
        try:
            yield _Worker(process, f"{contender.name} (see {log})")
        finally:
            process.kill()
