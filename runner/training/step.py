"""The one training step that every trainer, precision and gradient rule shares."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from runner.error_texts import has_too_few_values, is_out_of_memory
from runner.errors import TooFewExamples
from runner.training.gradients.buffer_snapshot import BufferSnapshot
from runner.training.gradients.micro_batches import micro_batches
from runner.training.lookahead import Lookahead
from runner.training.running_metrics import Answers, RunningMetrics

if TYPE_CHECKING:
    from runner.training.parts import Parts


class TrainStep:
    """One update after another, each a pure function of (state, seed, step).

    Nothing here waits for the device, and nothing is done that this model does not need: on a small one, whatever is
    called once a step counts.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._parameters = parts.parameters
        semantic = parts.plan.semantic
        self._lr = semantic.optimizer.lr
        # Under DP the denominator is the constant q * N: the size of a Poisson batch is private.
        self._denominator = None if semantic.privacy is None else float(semantic.logical_batch)
        self._lookahead = Lookahead(parts)
        self._buffers = BufferSnapshot(parts.model)
        self.running_metrics = RunningMetrics(parts.world, parts.precision.parameter_dtype, parts.task.right)
        """Losses and right answers since they were last read."""
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
        self.lr = self._lr * parts.set_rates(step)
        # 2. So is the logical batch, and this process's share of it.
        clock.enter("data")
        rows = self._lookahead.rows(step)
        clock.enter("other")
        examples = rows.numel()
        parts.sizes.step = step + 1
        self._buffers.take()
        while True:
            measured = self._add_up(step, rows)
            # 5. One gradient for all processes.
            failed, stop = parts.rule.share((measured is None, stop))
            if measured is not None and not failed:
                break
            self._buffers.put_back()
            largest_share = -(-examples // world.size)
            parts.sizes.halve("training", min(parts.sizes["training"], largest_share))
        clock.enter("other")
        for loss, answers in measured:
            self.running_metrics.add(loss, answers)
        self.norm = parts.rule.release(step)
        # 6. One update.
        clock.enter("optimizer")
        parts.precision.step(parts.optimizer, self._parameters, step)
        if parts.average is not None:
            parts.average.update(step)
        self.running_metrics.examples += examples
        clock.end()
        return stop

    def _add_up(self, step: int, rows: torch.Tensor) -> list[tuple[torch.Tensor, Answers]] | None:
        """Losses and answers of this process's micro-batches; None when memory ran out."""
        parts, world = self._parts, self._parts.world
        parts.draws.begin(step, world.rank)
        # 3. The denominator is fixed before any arithmetic.
        parts.rule.begin(self._denominator or float(rows.numel()))
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
        except ValueError as error:
            if not has_too_few_values(error):
                raise
            raise TooFewExamples(
                f"step {step + 1}: a micro-batch of one example is too small for BatchNorm; try model.norm=group, or a"
                " data.batch_size that leaves more at the end of an epoch"
            ) from error
