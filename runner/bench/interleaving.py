"""Interleaved timing: contenders live in processes of their own, and one at a time runs a block of updates."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import IO, Any

from runner.bench.meters import HostMeter, Meter


class TimedSteps:
    """A contender's side: ``for step in timed_steps`` is its training loop, which pauses between blocks of updates."""

    def __init__(
        self,
        orders: IO[str],
        answers: IO[str],
        *,
        block: int,
        proof_steps: int | None = None,
        warm_up: int = 1,
        meter: Meter | None = None,
    ) -> None:
        """Take orders line by line from ``orders`` and answer each with a line of JSON.

        Args:
            orders: ``go`` for a block of updates; its end ends the process.
            answers: where measurements go.
            block: updates in a block.
            proof_steps: hand over the losses of so many first updates instead of taking times.
            warm_up: blocks before the first that counts; they wait for no turn.
            meter: measures a block; None for the clocks of this process.
        """
        self._orders = orders
        self._answers = answers
        self._losses: list[float] = []
        self._cold = warm_up
        self.block = block
        self._proof_steps = proof_steps
        self.facts: dict[str, Any] = {}
        """What else to say at the end."""
        self.proving = proof_steps is not None
        self._meter = HostMeter() if meter is None else meter

    def __iter__(self) -> Iterator[int]:
        """Steps from 0 on; the first blocks are the warm-up."""
        step = 0
        if self._proof_steps is not None:
            yield from range(self._proof_steps)
            self.stop()
        while True:
            for _ in range(self.block):
                yield step
                step += 1
            self.pause()

    def note(self, loss: float) -> None:
        """Hand over the loss of an update, in a proof."""
        self._losses.append(loss)
        if len(self._losses) == self._proof_steps:
            self.stop()

    def pause(self) -> None:
        """End a block, and wait for the order to begin the next."""
        if self._cold > 1:
            self._cold -= 1
            return
        if self._cold == 0:
            self._answer(self._meter.end())
        else:
            self._cold = 0
            self._answer({"ready": True})
        if self._orders.readline() != "go\n":
            self.stop()
        self._meter.begin()

    def stop(self) -> None:
        """Say what only the end can tell, and leave."""
        if self.proving:
            self._answer({"losses": self._losses, **self.facts})
        else:
            self._answer({"peak_bytes": self._meter.peak_bytes(), **self.facts})
        self._answers.flush()
        sys.exit(0)

    def _answer(self, answer: dict[str, Any]) -> None:
        self._answers.write(json.dumps(answer) + "\n")
        self._answers.flush()
