"""Observations of each step for an audit: sensitivities, sums one example at a time, the attacker's scores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from runner.audit.likelihood import log_odds
from runner.audit.one_example import OneExample
from runner.audit.sensitivity import Sensitivity, clipped_sum, measure_sensitivity

if TYPE_CHECKING:
    from runner.training.gradients.batch_sampler import BatchSampler
    from runner.training.parts import Parts

_SURE = 8.0
"""By how many deviations independent rounding errors may come together: a chance of exp(-8^2 / 2)."""


_FLOAT64 = 1e-9
"""Two ways of computing a clipped gradient in float64 differ by 1e-16 to 1e-14; another gradient, by 1e-3 and more."""


@dataclass(frozen=True, kw_only=True)
class Targets:
    """Examples of which the attacker wants to know whether they are present."""

    rows: tuple[int, ...]
    """[m] positions in the training set."""
    present: tuple[bool, ...]
    """[m] coins; who is absent is in no batch."""


@dataclass(frozen=True, kw_only=True)
class SumDifference:
    """A clipped sum held against the sum of gradients computed one example at a time in float64, in units of C."""

    found: float
    allowed: float
    """Rounding: see ``_compare``."""


class StepObservations:
    """Sees each step of a run twice: before it is made, and when its gradient was released and not yet used."""

    def __init__(
        self,
        parts: Parts,
        sampler: BatchSampler,
        targets: Targets,
        *,
        sums: int,
        thorough: bool,
        rule_in_float64: Parts | None,
    ) -> None:
        """See ``runner.audit.audited_run.run_audited``; ``sampler`` is that of the examples that are present.

        ``rule_in_float64`` are parts of the same run in float64, where its own arithmetic is too coarse to see much.
        """
        privacy = parts.plan.semantic.privacy
        assert privacy is not None
        self._parts = parts
        self._sampler = sampler
        self._targets = targets
        self._sums = sums
        self._thorough = thorough
        self._rate = privacy.sample_rate
        self._max_grad_norm = privacy.max_grad_norm
        self._deviation = privacy.noise_multiplier * privacy.max_grad_norm
        self._alone = OneExample(parts)
        self._exact = OneExample(rule_in_float64 or parts, dtype=torch.float64)
        self._rule_in_float64 = rule_in_float64
        self._processes = parts.world.size
        self._moved: Tensor | None = None  # by the first example, in units of sigma C
        self.sensitivities: list[Sensitivity] = []
        self.differences: list[SumDifference] = []
        self.scores = np.zeros(len(targets.rows))
        """See ``AuditedRun.scores``."""
        self.odds = np.zeros(len(targets.rows) + (thorough and bool(targets.rows)))
        """See ``AuditedRun.odds``."""

    def before(self, step: int, *, last: bool) -> None:
        """Look at update ``step`` before it is made."""
        if not self._thorough:
            return
        rows = self._sampler.rows(step)
        if rows.numel() and (last or not self.sensitivities):
            self.sensitivities += measure_sensitivity(self._parts, step, rows, processes=self._processes)
        if self._targets.rows:
            rest = rows[rows != 0]
            whole = torch.cat([torch.zeros(1, dtype=torch.int64), rest])
            self._moved = (self._sum(step, whole) - self._sum(step, rest)) / self._deviation

    def observe(self, step: int, clipped: Tensor, noise: Tensor) -> None:
        """See ``runner.audit.observer.Look``."""
        with _one_thread():
            self._look(step, clipped, noise)

    def _look(self, step: int, clipped: Tensor, noise: Tensor) -> None:
        rows = self._sampler.rows(step).tolist()
        self._alone.follow()
        if rows and (self._sums >= len(rows) or not self.differences):
            self._compare(step, rows, clipped)
        if self._targets.rows:
            self._attack(step, set(rows), noise)
        if self._moved is not None:
            product, square = float(self._moved @ noise), float(self._moved @ self._moved)
            self.odds[-1] += log_odds(product + square * (0 in rows), square, rate=self._rate)

    def _sum(self, step: int, rows: Tensor) -> Tensor:
        return clipped_sum(self._parts, step, rows, processes=self._processes)

    def _compare(self, step: int, rows: list[int], clipped: Tensor) -> None:
        """Hold ``clipped`` against a sum in float64.

        What may lie between them is rounding.  That of an example is measured: its gradient in the run's own arithmetic
        is computed one at a time too, and the run's may be twice as far from the exact one; examples may err alike, as
        they share rounded weights.  The errors of a sum of m numbers are taken as independent, of a deviation of at
        most sqrt(m) u times the sum of the sizes (Higham and Mary 2019, "A new approach to probabilistic rounding
        error analysis").
        """
        exactly = self._rule_in_float64
        if exactly is not None:
            exactly.model.load_state_dict(self._parts.model.state_dict())
        self._exact.follow()
        total, apart = torch.zeros_like(clipped, dtype=torch.float64), 0.0
        wide = torch.zeros_like(total)
        for row in rows:
            own, exact = self._alone.clipped(step, row).double(), self._exact.clipped(step, row)
            wide += exact
            # what is not finite in the run's arithmetic counts as zero there
            exact = exact if own.any() else own
            total += exact
            apart += float((own - exact).norm())
        self._sums -= len(rows)
        unit = torch.finfo(clipped.dtype).eps / 2
        self.differences.append(
            SumDifference(
                found=float((clipped.double() - total).norm()) / self._max_grad_norm,
                allowed=2 * apart / self._max_grad_norm + _SURE * len(rows) ** 1.5 * unit,
            )
        )
        if exactly is not None:
            found = clipped_sum(exactly, step, torch.tensor(rows), processes=self._processes) - wide
            self.differences.append(
                SumDifference(found=float(found.norm()) / self._max_grad_norm, allowed=_FLOAT64 * len(rows))
            )

    def _attack(self, step: int, drawn: set[int], noise: Tensor) -> None:
        """Score the targets by this step.

        The others' gradients and batches are known, those of the targets are not: half of them are present, and a
        present one was drawn with probability q, which is what is expected of them.
        """
        rows, present = self._targets.rows, self._targets.present
        moves = torch.stack([self._alone.clipped(step, row).double() for row in rows]) / self._deviation
        there = torch.tensor([row in drawn and here for row, here in zip(rows, present, strict=True)]).to(noise.device)
        squares = moves.square().sum(1)
        products = moves @ noise
        release = noise + there.double() @ moves - self._rate / 2 * moves.sum(0)
        scored = moves @ release + self._rate / 2 * squares
        self.scores += log_odds(scored.cpu(), squares.cpu(), rate=self._rate)
        self.odds += np.concatenate(
            [
                log_odds((products + there * squares).cpu(), squares.cpu(), rate=self._rate),
                np.zeros(len(self.odds) - len(rows)),
            ]
        )


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread for work too small to share, as an example is: beside other work, two took twelve times as long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
