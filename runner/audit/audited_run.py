"""One training run under audit: the ordinary steps, each checked against other ways to compute it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from runner.audit.observer import Observer, RecordingFeed
from runner.audit.released_noise import Noise
from runner.audit.sensitivity import Sensitivity, rounding
from runner.audit.step_observations import StepObservations, SumDifference, Targets
from runner.training.distributed.world import SingleProcess
from runner.training.parts import Parts, build_parts
from runner.training.step import TrainStep

if TYPE_CHECKING:
    from runner.data.feed import Feed
    from runner.data.images import ImageData
    from runner.planning.plan import Plan
    from runner.privacy.mechanism.key import SecretKey
    from runner.training.distributed.world import World
    from runner.training.gradients.batch_sampler import BatchSampler
    from runner.training.gradients.mean_rule import GradientRule


@dataclass(kw_only=True)
class AuditedRun:
    """What came of one run."""

    noise: Noise
    asked: list[NDArray[np.int64]]
    """Rows of each logical batch by the sampler, ascending."""
    taken: list[NDArray[np.int64]]
    """Rows of which images were taken for it, by all processes, ascending."""
    again: float
    """Root of the mean square of the difference of the last step's release and of the same step done again by a run
    that was built anew with the same key, in units of sigma C."""
    again_allowed: float
    followed: bool
    """Whether weights that saw nothing but the releases are those that were trained."""
    sampler: BatchSampler
    sensitivities: list[Sensitivity]
    differences: list[SumDifference]
    scores: NDArray[np.float64]
    """[m] of the targets, from what does not depend on the others' coins."""
    odds: NDArray[np.float64]
    """[m] log odds that each target is present, by somebody who knows everything else.

    With ``thorough`` one more: of the first example."""


def run_audited(
    plan: Plan,
    data: ImageData,
    world: World,
    *,
    steps: int,
    key: SecretKey,
    grad_sample: str | None,
    targets: Targets,
    sums: int,
    kept: int,
    thorough: bool,
    over: Callable[[Parts], GradientRule] | None = None,
) -> tuple[Parts, AuditedRun]:
    """Train ``steps`` updates of ``plan`` with every part that a run has; equal in every process.

    Args:
        plan: of a private run.
        data: its images.
        world: its processes; the first one looks.
        steps: how many, from the first on.
        key: of this run.
        grad_sample: as of a resumed run; None to choose.
        targets: of the attack.
        sums: examples whose gradients are computed one at a time, at most, apart from the first batch's.
        kept: numbers of noise that are kept of each step, at most.
        thorough: whether to measure the sensitivity of the first and the last step, and to attack the presence of the
            first example in the way that would see it shift all others.
        over: puts another rule around the one that is observed.
    """
    # what is looked at is the whole model
    plan = plan.evolve({"performance.features": False})
    parts = build_parts(plan, data, world, key=key, grad_sample=grad_sample)
    way = parts.plan.performance.grad_sample
    again = build_parts(plan, data, world, key=key, grad_sample=way)
    absent = [row for row, present in zip(targets.rows, targets.present, strict=True) if not present]
    sampler: BatchSampler = Without(parts.sampler, absent)
    feed = RecordingFeed(cast("Feed", parts.feed))
    observations = None
    if world.is_main:
        observations = StepObservations(
            parts, sampler, targets, sums=sums, thorough=thorough, rule_in_float64=_in_float64(parts, data, key, way)
        )
    observer = Observer(parts, kept=kept, feed=feed, observe=None if observations is None else observations.observe)
    observed = dataclasses.replace(parts, rule=observer, feed=cast("Feed", feed), sampler=sampler)
    if over is not None:
        observed = dataclasses.replace(observed, rule=over(observed))
    step = TrainStep(observed)
    asked, taken = [], []
    for number in range(steps):
        if observations is not None:
            observations.before(number, last=number == steps - 1)
        step.run(number)
        asked.append(sampler.rows(number).numpy())
        mine = torch.cat([torch.zeros(0, dtype=torch.int64), *feed.rows]).numpy()
        taken.append(np.sort(np.concatenate(world.gather(mine))))
        if number < steps - 1:
            _follow(again, observer.released, number)
    once = torch.cat([gradient.flatten() for gradient in observer.released])
    TrainStep(dataclasses.replace(again, sampler=sampler)).run(steps - 1)
    twice = torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in again.parameters])
    semantic = plan.semantic
    privacy = semantic.privacy
    assert privacy is not None
    unit = privacy.noise_multiplier * privacy.max_grad_norm / semantic.logical_batch
    parts.feed.close()
    again.feed.close()
    return parts, AuditedRun(
        noise=observer.noise(),
        asked=asked,
        taken=taken,
        again=float((once - twice).double().square().mean().sqrt()) / unit,
        again_allowed=0.0 if world.device.type == "cpu" else rounding(parts, len(asked[-1])) / privacy.noise_multiplier,
        followed=_equal(parts, again),
        sampler=sampler,
        sensitivities=[] if observations is None else observations.sensitivities,
        differences=[] if observations is None else observations.differences,
        scores=np.zeros(0) if observations is None else observations.scores,
        odds=np.zeros(0) if observations is None else observations.odds,
    )


def _in_float64(parts: Parts, data: ImageData, key: SecretKey, grad_sample: str | None) -> Parts | None:
    """The parts of the same run in float64 by itself, for one in 16 bits."""
    precision = parts.plan.semantic.precision
    if precision.dtype not in ("bfloat16", "float16"):
        return None
    plan = parts.plan.evolve({"semantic.precision.dtype": "float64"})
    return build_parts(plan, data, SingleProcess(parts.world.device), key=key, grad_sample=grad_sample)


class Without:
    """A stream without some examples, as of a data set that lacks them."""

    def __init__(self, sampler: BatchSampler, absent: list[int]) -> None:
        self._sampler = sampler
        self._absent = torch.tensor(absent, dtype=torch.int64)

    def rows(self, step: int) -> Tensor:
        """See ``BatchSampler.rows``."""
        rows = self._sampler.rows(step)
        return rows[~torch.isin(rows, self._absent)]


def _follow(parts: Parts, released: list[Tensor], step: int) -> None:
    """Update ``parts``, whose examples nobody looks at, by what was released in ``step``."""
    parts.set_rates(step)
    for parameter, gradient in zip(parts.parameters, released, strict=True):
        parameter.grad = gradient
    parts.precision.step(parts.optimizer, parts.parameters, step)
    if parts.average is not None:
        parts.average.update(step)


def _equal(one: Parts, other: Parts) -> bool:
    """Whether weights, buffers and averages are the same, to the bit."""
    first, second = one.model.state_dict(), other.model.state_dict()
    return all(torch.equal(first[name], second[name]) for name in first)
