"""The mechanism of a private run, with every value filled in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.config.rules.batches import split_batch
from runner.errors import RequestError
from runner.planning.plan import PrivacyPlan
from runner.planning.run_length import updates_asked, updates_per_epoch
from runner.privacy.accounting.accountants import default_delta
from runner.privacy.accounting.calibration import calibrate_mechanism
from runner.privacy.ledger.void_runs import DRAWS

if TYPE_CHECKING:
    from runner.config.schema import RunConfig

DEFAULT_EPSILON = 3.0
"""Budget of a private run that names neither epsilon nor a noise multiplier."""


def plan_privacy(config: RunConfig, *, examples: int, validated: bool, processes: int) -> tuple[PrivacyPlan, int]:
    """The mechanism on ``examples`` training images, and the number of updates; one of the two may be solved for.

    ``validated``: whether there is a validation split.

    Raises:
        RequestError: the batch is larger than the data, or no mechanism meets what is asked.
    """
    split = split_batch(config, processes)
    if split.logical > examples:
        raise RequestError(
            "data.batch_size",
            f"an effective batch of {split.logical} ({split.batch_size} x {split.accumulation} x {processes})",
            f"at most the {examples} training examples, because it is sampled from them with q = B / N",
        )
    asked = config.privacy
    delta = default_delta(examples) if asked.delta is None else asked.delta
    if delta >= 1 / examples:
        raise RequestError(
            "privacy.delta",
            delta,
            f"less than 1/n = {1 / examples:.3g} for {examples} training examples, such as {default_delta(examples):g}",
        )
    rate = split.logical / examples
    budget = DEFAULT_EPSILON if asked.epsilon is None and asked.noise_multiplier is None else asked.epsilon
    calibrated = calibrate_mechanism(
        asked.accountant,
        epsilon=budget,
        noise_multiplier=asked.noise_multiplier,
        steps=updates_asked(config, updates_per_epoch(config, examples, split.logical)),
        delta=delta,
        sample_rate=rate,
    )
    plan = PrivacyPlan(
        epsilon=calibrated.epsilon,
        budget=budget,
        solved=calibrated.solved,
        delta=delta,
        noise_multiplier=calibrated.noise_multiplier,
        max_grad_norm=asked.max_grad_norm,
        augmentation_multiplicity=asked.augmentation_multiplicity,
        sample_rate=rate,
        accountant=asked.accountant,
        adjacency="add or remove one training example",
        sampling="Poisson",
        unsafe_noise_seed=asked.unsafe_noise_seed,
        validation=asked.validation if validated else "none",
        draws=DRAWS,
    )
    return plan, calibrated.steps
