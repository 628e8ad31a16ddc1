"""The result of an audit: checks of the mechanism, the attacker's lower bound and the claimed epsilon."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from runner.audit.bound import Guesses
from runner.audit.checks import LEVEL, Check
from runner.audit.inclusions import inclusion_checks
from runner.audit.released_noise import Noise, noise_checks

if TYPE_CHECKING:
    from runner.audit.audited_run import AuditedRun
    from runner.planning.plan import Plan

LOWER_BOUND = "lower bound"
BATCHES = 50
"""How often the sampler is asked for each example, on average."""
_DRAWS = 20_000_000
"""Coins of the sampler that are looked at, at most."""

UNSEEN = (
    "what is computed outside of the update: choices by validation data, other runs, files",
    "steps that were not made, other seeds, devices and numbers of processes",
    "faults smaller than docs/results/2026-11-30-audit.md lists, such as noise 0.1 % too small",
)
"""What no audit of this kind can see, in words."""


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What was claimed and what was found."""

    plan: Plan
    attacked: str
    """``canaries`` or ``recipe``."""
    runs: int
    steps: int
    """Updates of each run."""
    guesses: Guesses
    confidence: float
    lower_bound: float
    """Epsilon that the guesses prove, at ``confidence`` and the claim's delta."""
    measurable: float
    """The lower bound if every guess had been right: this audit cannot see more."""
    claimed: float
    """Epsilon that the accountant reports for those updates: the upper bound."""
    delta: float
    checks: tuple[Check, ...]
    notes: tuple[str, ...] = ()

    @property
    def private(self) -> bool:
        """Whether anything is claimed: with ``privacy.unsafe_noise_seed`` anyone can compute the noise."""
        privacy = self.plan.semantic.privacy
        return privacy is not None and privacy.unsafe_noise_seed is None

    @property
    def passed(self) -> bool:
        """Whether there is a claim, and nothing contradicts it."""
        return self.private and not self.failures

    @property
    def failures(self) -> tuple[str, ...]:
        """Names of what contradicts the claim."""
        bound = (LOWER_BOUND,) if self.lower_bound > self.claimed else ()
        return bound + tuple(check.name for check in self.checks if not check.passed)

    def as_dict(self) -> dict[str, object]:
        """Plain values for ``audit.json``."""
        privacy = self.plan.semantic.privacy
        assert privacy is not None
        return {
            "passed": self.passed,
            "failures": self.failures,
            "attacked": self.attacked,
            "runs": self.runs,
            "steps": self.steps,
            "epsilon": {
                "lower_bound": self.lower_bound,
                "confidence": self.confidence,
                "claimed": self.claimed,
                "claimed_by_recipe": privacy.epsilon,
                "delta": self.delta,
                "measurable": self.measurable,
            },
            "guesses": dataclasses.asdict(self.guesses),
            "checks": [{**dataclasses.asdict(check), "passed": check.passed} for check in self.checks],
            "check_level": LEVEL,
            "notes": self.notes,
            "unseen": UNSEEN,
            "plan": self.plan.as_dict(),
        }


def direct_checks(plan: Plan, runs: Sequence[AuditedRun], *, left_out: Sequence[int]) -> list[Check]:
    """What ``runs`` of ``plan`` did, against what was claimed; the sensitivity comes first.

    ``left_out`` are the rows of examples that may have been absent.
    """
    return [
        _sensitivity(runs),
        _sums(runs),
        *noise_checks(Noise.joined([run.noise for run in runs])),
        _again(runs),
        Check.exact(
            "weights: from releases alone",
            "the same bits",
            "the same bits" if all(run.followed for run in runs) else "others",
            holds=all(run.followed for run in runs),
        ),
        _taken(runs),
        *_inclusions(plan, runs, left_out),
    ]


def _sensitivity(runs: Sequence[AuditedRun]) -> Check:
    """Leaving out one example, at the first, the middle and the last place, moves the sum by C at most."""
    found = [each for run in runs for each in run.sensitivities]
    worst = max(found, key=lambda each: each.moved - each.allowed, default=None)
    return Check.exact(
        "sensitivity of a step, over C",
        "<= 1" if worst is None else f"<= {worst.allowed:.6g}",
        "no example drawn" if worst is None else f"{worst.moved:.6g}",
        holds=all(each.holds for each in found),
    )


def _sums(runs: Sequence[AuditedRun]) -> Check:
    """Clipped sums, against those of one example at a time."""
    found = [each for run in runs for each in run.differences]
    worst = max(found, key=lambda each: each.found / each.allowed, default=None)
    return Check.exact(
        "clipped sum, one at a time, / C",
        "equal" if worst is None else f"0 +- {worst.allowed:.1g}",
        "no example drawn" if worst is None else f"{worst.found:.1g}",
        holds=worst is None or worst.found <= worst.allowed,
    )


def _again(runs: Sequence[AuditedRun]) -> Check:
    """A step that is done again, as after a kill, must release what it released before: one key, one noise."""
    worst = max(runs, key=lambda run: run.again - run.again_allowed)
    return Check.exact(
        "a step done again, / sigma C",
        "0" if worst.again_allowed == 0 else f"<= {worst.again_allowed:.1g}",
        f"{worst.again:.2g}",
        holds=worst.again <= worst.again_allowed,
    )


def _taken(runs: Sequence[AuditedRun]) -> Check:
    """Every step released, from the images of the examples that were drawn and of no other."""
    steps = sum(len(run.asked) for run in runs)
    right = sum(np.array_equal(asked, taken) for run in runs for asked, taken in zip(run.asked, run.taken, strict=True))
    released = sum(run.noise.steps for run in runs)
    return Check.exact(
        "batches: those of the sampler", f"{steps} steps", f"{min(right, released)}", holds=right == released == steps
    )


def _inclusions(plan: Plan, runs: Sequence[AuditedRun], left_out: Sequence[int]) -> list[Check]:
    privacy, examples = plan.semantic.privacy, plan.semantic.data.examples
    assert privacy is not None
    enough = min(BATCHES / privacy.sample_rate, _DRAWS / examples) / len(runs)
    batches = [
        rows
        for run in runs
        for rows in (*run.taken, *(run.sampler.rows(step).numpy() for step in range(len(run.asked), int(enough))))
    ]
    drawn = np.zeros((len(batches), examples), dtype=np.bool_)
    for number, rows in enumerate(batches):
        drawn[number, rows] = True
    return inclusion_checks(np.delete(drawn, list(left_out), axis=1), rate=privacy.sample_rate)
