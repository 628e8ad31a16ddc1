"""One audit: the product's own private trainer on canaries, watched from the outside."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch

from runner.audit.bound import Guesses, epsilon_lower_bound, guess, largest_bound
from runner.audit.canaries import Layout, coins, every_canary
from runner.audit.checks import LEVEL, Check, batch_checks, clipping_check, noise_checks
from runner.audit.score import Witness
from runner.config.errors import RequestError
from runner.config.schema import RunConfig
from runner.data import augment
from runner.data.images import ImageData
from runner.data.open import open_data
from runner.plan.build import build_plan
from runner.plan.device import detect_device
from runner.plan.plan import Plan
from runner.training.losses import cross_entropy
from runner.training.parts import Parts, build_parts
from runner.training.settle import settle
from runner.training.step import TrainStep
from runner.training.torch_settings import torch_settings
from runner.training.world import SingleProcess, torch_device

SOURCE = "runner.audit.canaries.make_canaries"
FEWEST_STEPS = 10
"""Fewer say nothing about the noise of different steps or the spread of batch sizes."""


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What was claimed and what was found."""

    plan: Plan
    guesses: Guesses
    confidence: float
    lower_bound: float
    """Epsilon that the guesses prove, at ``confidence`` and the claim's delta."""
    measurable: float
    """The lower bound if every guess had been right: this audit cannot see more."""
    claimed: float
    """Epsilon that the accountant reports: the upper bound."""
    delta: float
    checks: tuple[Check, ...]

    @property
    def failures(self) -> tuple[str, ...]:
        """Names of what contradicts the claim."""
        bound = ("lower bound",) if self.lower_bound > self.claimed else ()
        return bound + tuple(check.name for check in self.checks if not check.passed)

    def as_dict(self) -> dict[str, object]:
        """Plain values for ``audit.json``."""
        return {
            "passed": not self.failures,
            "failures": self.failures,
            "epsilon": {
                "lower_bound": self.lower_bound,
                "confidence": self.confidence,
                "claimed": self.claimed,
                "delta": self.delta,
                "measurable": self.measurable,
            },
            "guesses": dataclasses.asdict(self.guesses),
            "checks": [{**dataclasses.asdict(check), "passed": check.passed} for check in self.checks],
            "check_level": LEVEL,
            "plan": self.plan.as_dict(),
        }


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
    data = open_data(config.data)
    if len(data.train) != canaries + config.data.options["others"]:
        raise RequestError("data.limit", config.data.limit, "null, and data.val_fraction=0: the audit needs each image")
    world = SingleProcess(torch_device(device.kind))
    plan = settle(build_plan(config, data, device, processes=1), config, device, world)
    if plan.semantic.steps < FEWEST_STEPS:
        raise RequestError("trainer.steps", plan.semantic.steps, f"at least {FEWEST_STEPS} for an audit")
    with torch_settings(plan):
        parts = build_parts(plan, data, world)
        witness = _witness(parts, data, canaries)
        step = TrainStep(dataclasses.replace(parts, rule=witness))
        for number in range(plan.semantic.steps):
            step.run(number)
    return _judge(plan, witness, coins(data, canaries), guesses=guesses, confidence=confidence)


def _check(config: RunConfig, guesses: int, confidence: float) -> int:
    """The number of canaries, of a configuration that can be audited."""
    data = config.data
    if config.trainer.name != "dp":
        raise RequestError("trainer", config.trainer.name, "dp: the audit is of the private trainer")
    if data.target != SOURCE:
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


def _witness(parts: Parts, data: ImageData, canaries: int) -> Witness:
    layout = Layout.of(canaries)
    first = parts.parameters[0]
    if first.shape[1:] != (layout.size**2,) or any(parameter.ndim != 2 for parameter in parts.parameters):
        raise RequestError(
            "model",
            parts.plan.semantic.model.name,
            "linear or mlp with model.bias=false, where a pixel's weights belong to it alone",
        )
    feed = parts.plain_feed(data, every_canary(data, canaries))
    images, labels = feed.batch(torch.arange(canaries), None)
    loss = cross_entropy(parts.plan.semantic.label_smoothing)
    return Witness(parts, images=images, labels=labels, dark=layout.dark, loss=loss)


def _judge(plan: Plan, witness: Witness, present: np.ndarray, *, guesses: int, confidence: float) -> Audit:
    privacy, semantic = plan.semantic.privacy, plan.semantic
    assert privacy is not None
    found = guess(witness.scores.cpu().numpy(), present, guesses=guesses)
    deviation = privacy.noise_multiplier * privacy.max_grad_norm / semantic.logical_batch
    noise = torch.stack(witness.noise).cpu().double().numpy()
    checks = [
        *noise_checks(noise, deviation=deviation),
        *batch_checks(witness.sizes, examples=semantic.data.examples, rate=privacy.sample_rate),
        clipping_check(
            witness.contributions.cpu().numpy()[present] * semantic.logical_batch,
            steps=semantic.steps,
            rate=privacy.sample_rate,
            max_grad_norm=privacy.max_grad_norm,
            noise_multiplier=privacy.noise_multiplier,
        ),
    ]
    return Audit(
        plan=plan,
        guesses=found,
        confidence=confidence,
        lower_bound=epsilon_lower_bound(found, delta=privacy.delta, confidence=confidence),
        measurable=largest_bound(len(present), guesses, delta=privacy.delta, confidence=confidence),
        claimed=privacy.epsilon,
        delta=privacy.delta,
        checks=tuple(checks),
    )
