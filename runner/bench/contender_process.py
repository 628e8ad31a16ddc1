"""The process of one contender: ``python -m runner.bench.contender_process '{"contender": ..., ...}'``."""

from __future__ import annotations

import importlib
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from runner.bench.interleaving import TimedSteps
from runner.bench.meters import meter_for
from runner.bench.task import Task


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a worker is told when it starts."""

    contender: str
    """A module of ``runner.bench.contenders``."""
    options: tuple[str, ...]
    """Its variants."""
    task: Task
    prepared: str
    """File of ``runner.bench.task.prepare``."""
    threads: int
    proving: bool
    block: int
    """Updates in a block."""
    warm_up: int = 1
    """Blocks before the first that counts."""

    def to_json(self) -> str:
        """As an argument of the worker."""
        return json.dumps(asdict(self))


def main() -> None:
    """Become the contender that the first argument describes."""
    given = json.loads(sys.argv[1])
    order = Order(**given | {"task": Task(**given["task"])})
    # What libraries print shall not stand between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    torch.set_num_threads(order.threads)
    proof_steps = order.task.proof_steps if order.proving else None
    timed_steps = TimedSteps(
        sys.stdin,
        answers,
        block=order.block,
        proof_steps=proof_steps,
        warm_up=order.warm_up,
        meter=meter_for(order.task.device),
    )
    module = importlib.import_module(f"runner.bench.contenders.{order.contender}")
    module.train(order.task, Path(order.prepared), timed_steps, tuple(order.options))


if __name__ == "__main__":
    main()
