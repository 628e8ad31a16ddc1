"""The audit by canaries: the private trainer on examples whose presence an attacker tries to guess."""

from __future__ import annotations

import numpy as np
import torch

from runner.audit.audit_result import Audit, direct_checks
from runner.audit.audited_run import AuditedRun, run_audited
from runner.audit.bound import epsilon_lower_bound, guess, largest_bound
from runner.audit.canaries import CanaryLayout, coins, every_canary
from runner.audit.checks import at_one_level, clipping_check
from runner.audit.config_audit import FEWEST_STEPS, new_key
from runner.audit.request import CANARIES
from runner.audit.score import Attacker
from runner.audit.step_observations import Targets
from runner.autotune.resolve import resolve_plan
from runner.config.schema import RunConfig
from runner.data import augment
from runner.data.images import ImageData
from runner.errors import RequestError
from runner.planning.build import build_plan
from runner.planning.device import detect_device
from runner.planning.plan import Plan
from runner.training.distributed.world import SingleProcess, torch_device
from runner.training.parts import Parts
from runner.training.run_data import open_run_data
from runner.training.torch_settings import torch_settings

_SUMS = 1000
"""Gradients that are computed one at a time, apart from the first batch's."""
_KEPT = 1 << 24
"""Numbers of noise that are kept."""


def run_audit(config: RunConfig, *, guesses: int, confidence: float) -> Audit:
    """Train ``config`` on canaries with every part that a private run has, and see what its releases give away.

    Args:
        config: Checked, for ``trainer=dp`` and ``data=canaries``.
        guesses: How many canaries the attacker will call, half of them present; fixed before the run.
        confidence: Of the lower bound, in (0, 1).

    Raises:
        RequestError: the configuration cannot be audited, or cannot be run.
    """
    canaries = _check(config, guesses, confidence)
    device = detect_device(config.hardware)
    data = open_run_data(config)
    if len(data.train) != canaries + config.data.options["others"]:
        raise RequestError("data.limit", config.data.limit, "null, and data.val_fraction=0: the audit needs each image")
    world = SingleProcess(torch_device(device.kind))
    plan = resolve_plan(build_plan(config, data, device, processes=1), config, device, world)
    privacy, steps = plan.semantic.privacy, plan.semantic.steps
    assert privacy is not None
    if steps < FEWEST_STEPS:
        raise RequestError("trainer.steps", steps, f"at least {FEWEST_STEPS} for an audit")
    attacker: list[Attacker] = []

    def over(parts: Parts) -> Attacker:
        attacker.append(_attacker(parts, data, canaries))
        return attacker[0]

    with torch_settings(plan):
        parts, audited = run_audited(
            plan,
            data,
            world,
            steps=steps,
            key=new_key(privacy, 0),
            grad_sample=None,
            targets=Targets(rows=(), present=()),
            sums=_SUMS,
            kept=_KEPT // steps,
            thorough=True,
            over=over,
        )
        return _judge(parts.plan, attacker[0], audited, coins(data, canaries), guesses=guesses, confidence=confidence)


def _check(config: RunConfig, guesses: int, confidence: float) -> int:
    """The number of canaries, of a configuration that can be audited."""
    data = config.data
    if config.trainer.name != "dp":
        raise RequestError("trainer", config.trainer.name, "dp: the audit is of the private trainer")
    if data.target != CANARIES:
        raise RequestError("data", data.name, "canaries: the audit brings its own images")
    if data.mean != [0.0]:
        raise RequestError("data.mean", data.mean, "[0], so that an absent canary has the gradient zero")
    if augment.is_on(data.augment):
        raise RequestError("data.augment", "random changes", "none: a canary lights one pixel and stays there")
    if config.hardware.processes != 1:
        raise RequestError("hardware.processes", config.hardware.processes, "1 for an audit")
    canaries: int = data.options["canaries"]
    if guesses % 2 or not 2 <= guesses <= canaries:
        raise RequestError("--guesses", guesses, f"an even number from 2 to the {canaries} canaries")
    if not 0.0 < confidence < 1.0:
        raise RequestError("--confidence", confidence, "a number above 0 and below 1")
    return canaries


def _attacker(parts: Parts, data: ImageData, canaries: int) -> Attacker:
    layout = CanaryLayout.of(canaries)
    first = parts.parameters[0]
    if first.shape[1:] != (layout.size**2,) or any(parameter.ndim != 2 for parameter in parts.parameters):
        raise RequestError(
            "model",
            parts.plan.semantic.model.name,
            "linear or mlp with model.bias=false, where a pixel's weights belong to it alone",
        )
    feed = parts.plain_feed(data, every_canary(data, canaries))
    images, labels = feed.batch(torch.arange(canaries), None)
    return Attacker(parts, images=images, labels=labels, loss=parts.task.losses)


def _judge(
    plan: Plan, attacker: Attacker, audited: AuditedRun, present: np.ndarray, *, guesses: int, confidence: float
) -> Audit:
    privacy, semantic = plan.semantic.privacy, plan.semantic
    assert privacy is not None
    found = guess(attacker.scores.cpu().numpy(), present, guesses=guesses)
    checks = [
        *direct_checks(plan, [audited], left_out=()),
        clipping_check(
            attacker.contributions.cpu().numpy()[present] * semantic.logical_batch,
            steps=semantic.steps,
            rate=privacy.sample_rate,
            max_grad_norm=privacy.max_grad_norm,
            noise_multiplier=privacy.noise_multiplier,
        ),
    ]
    return Audit(
        plan=plan,
        attacked="canaries",
        runs=1,
        steps=semantic.steps,
        guesses=found,
        confidence=confidence,
        lower_bound=epsilon_lower_bound(found, delta=privacy.delta, confidence=confidence),
        measurable=largest_bound(len(present), guesses, delta=privacy.delta, confidence=confidence),
        claimed=privacy.epsilon,
        delta=privacy.delta,
        checks=at_one_level(checks),
    )
