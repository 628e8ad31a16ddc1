"""The one training step that every trainer, precision and gradient rule shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from runner.config.errors import is_out_of_memory
from runner.training.buffers import BuffersBefore
from runner.training.lookahead import Lookahead
from runner.training.micro_batches import micro_batches
from runner.training.streams import fold_in

if TYPE_CHECKING:
    from runner.training.parts import Parts


_UNCOUNTED = 64
"""Micro-batches whose right answers may wait to be counted."""


@dataclass(frozen=True, kw_only=True)
class StepTotals:
    """What happened since the totals were last read, over all processes."""

    loss: float
    """Mean loss per example."""
    accuracy: float
    """Share of right answers, in [0, 1]."""
    examples: int


class TrainStep:
    """One update after another, each a pure function of (state, seed, step).

    Nothing here waits for the device: sums of losses and right answers stay on it until ``read_totals``.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._parameters = parts.parameters
        semantic = parts.plan.semantic
        self._seed = semantic.seed
        self._lr = semantic.optimizer.lr
        # Under DP the denominator is the constant q * N: the size of a Poisson batch is private.
        self._denominator = None if semantic.privacy is None else float(semantic.logical_batch)
        device = parts.world.device
        self._lookahead = Lookahead(parts)
        self._buffers = BuffersBefore(parts.model)
        self._loss = torch.zeros((), dtype=parts.precision.parameter_dtype, device=device)
        self._correct = torch.zeros((), dtype=torch.int64, device=device)
        self._hits: list[torch.Tensor] = []
        self.examples = 0
        """Examples since the totals were last read, over all processes."""
        self.lr = 0.0
        """Learning rate of the latest update."""
        self.norm: torch.Tensor | None = None
        """Gradient norm of the latest update, where the rule computed one; on the device."""

    def run(self, step: int, *, stop: bool = False) -> bool:
        """Do update ``step`` (from 0); whether a process has asked to ``stop`` after it.

        Where memory runs out in any process, all of them do the same logical batch again in smaller pieces.

        Raises:
            NonFiniteGradient: before the weights change; see ``Precision.step``.
            RunError: there is no memory for one example.
        """
        parts, world, clock = self._parts, self._parts.world, self._parts.clock
        clock.begin()
        # 1. The learning rate is a function of the step.
        self.lr = self._lr * parts.schedule.factor(step)
        for group in parts.optimizer.param_groups:
            group["lr"] = self.lr
        # 2. So is the logical batch, and this process's share of it.
        clock.enter("data")
        rows = self._lookahead.rows(step)
        clock.enter("other")
        parts.sizes.step = step + 1
        self._buffers.take()
        while True:
            measured = self._add_up(step, rows)
            # 5. One gradient for all processes.
            failed, stop = parts.rule.share((measured is None, stop))
            if measured is not None and not failed:
                break
            self._buffers.put_back()
            largest_share = -(-len(rows) // world.size)
            parts.sizes.halve("training", min(parts.sizes["training"], largest_share))
        clock.enter("other")
        for loss, hits in measured:
            self._loss.add_(loss)
            self._hits.append(hits)
        if len(self._hits) >= _UNCOUNTED:
            self._count_hits()
        self.norm = parts.rule.release(step)
        # 6. One update.
        clock.enter("optimizer")
        parts.precision.step(parts.optimizer, self._parameters, step)
        if parts.average is not None:
            parts.average.update(step)
        self.examples += len(rows)
        clock.end()
        return stop

    def _add_up(self, step: int, rows: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]] | None:
        """Losses and right answers of this process's micro-batches; None when memory ran out."""
        parts, world = self._parts, self._parts.world
        _seed_layers(fold_in(self._seed, step, world.rank), world.device)
        # 3. The denominator is fixed before any arithmetic.
        parts.rule.begin(self._denominator or float(len(rows)))
        # 4. Micro-batches only split the work.
        try:
            return [
                parts.rule.add(images, labels)
                for _, images, labels in micro_batches(parts, step, rows, rank=world.rank, size=world.size)
            ]
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            # The traceback holds on to what the attempt had allocated, so it must end before another one begins.
            return None

    def read_totals(self) -> StepTotals:
        """Read and reset the sums; waits for the device."""
        self._count_hits()
        sums = torch.stack([self._loss, self._correct.to(self._loss.dtype)])
        self._parts.world.sum_(sums)
        loss, correct = sums.tolist()
        examples, self.examples = self.examples, 0
        self._loss.zero_()
        self._correct.zero_()
        return StepTotals(loss=loss / max(examples, 1), accuracy=correct / max(examples, 1), examples=examples)

    def totals(self) -> dict[str, float]:
        """This process's sums as plain numbers, for a checkpoint in mid-window; waits for the device."""
        self._count_hits()
        return {"loss": self._loss.item(), "correct": self._correct.item(), "examples": self.examples}

    def _count_hits(self) -> None:
        """Count the right answers of several micro-batches in one go: a count each would cost more than the others."""
        if self._hits:
            self._correct.add_(torch.cat(self._hits).sum())
            self._hits.clear()

    def load_totals(self, saved: list[dict[str, float]]) -> None:
        """Take up the sums of every process; when their number has changed, the first one takes them all."""
        world = self._parts.world
        if len(saved) == world.size:
            mine = saved[world.rank : world.rank + 1]
        else:
            mine = saved if world.is_main else []
        self._loss.fill_(sum(totals["loss"] for totals in mine))
        self._correct.fill_(sum(totals["correct"] for totals in mine))
        self.examples = int(saved[0]["examples"])


def _seed_layers(seed: int, device: torch.device) -> None:
    """Make dropout and its kin a function of the step.  ``torch.manual_seed`` does the same and takes 95 us, not 1."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)
