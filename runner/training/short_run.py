"""A run in short: what takes memory in it, each once and in the order of a run, on the run's own data.

Nothing comes of it.  Weights stay where they are, what is written is removed, and a private run draws from a key that
is thrown away: what is learnt is how much memory numbers of such sizes take, whatever they are.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from runner.data.feed import Feed
from runner.privacy.independence import fixed_randomness
from runner.privacy.key import SecretKey
from runner.training.checkpoint import load_checkpoint
from runner.training.evaluate import evaluate
from runner.training.parts import Parts, build_parts
from runner.training.probe import without_effect
from runner.training.published import weights_to_save
from runner.training.saving import Saving, Snapshot
from runner.training.step import TrainStep
from runner.training.torch_settings import torch_settings
from runner.training.world import SingleProcess, torch_device

if TYPE_CHECKING:
    from runner.data.images import ImageData, ImageSet
    from runner.plan.plan import Plan

_SEED = 20_262


def run_in_short(plan: Plan, data: ImageData, scratch: Path) -> bool:
    """Do what a run of ``plan`` does, in one process; whether the memory sufficed without smaller batches.

    ``scratch`` is an existing folder for the checkpoints.

    Raises:
        RequestError: the model, optimizer, schedule or per-example gradients cannot be had as asked.
        RunError: there is no memory for one example.
    """
    device = torch_device(plan.performance.device)
    with (
        fixed_randomness(device),
        torch_settings(plan),
        tempfile.TemporaryDirectory(prefix=".fit-", dir=scratch) as folder,
    ):
        key = None if plan.semantic.privacy is None else SecretKey.from_unsafe_seed(_SEED)
        parts = build_parts(_one_process(plan, len(data.train)), data, SingleProcess(device), key=key)
        step, saving = TrainStep(parts), Saving(Path(folder), parts.plan, parts.world)
        val = None if data.val is None else parts.plain_feed(data, data.val)
        step.run(0)
        if val is not None and data.val is not None:
            _evaluate(parts, val, data.val)
        # after its only evaluation a run saves at once, and is tested with the weights that it has
        several = plan.epoch_of(plan.semantic.steps - 1) > 1
        waits = several and val is not None and plan.performance.save_every is None
        chooses = several and plan.semantic.test_checkpoint == "best"
        if waits:
            saving.hold(_snapshot(parts, 1, best=1))
        # this one meets the optimizer's state as well
        step.run(1)
        saving.save(_snapshot(parts, 2, best=1 if waits and chooses else 2))
        if data.test is not None:
            if chooses:
                parts.model.load_state_dict(load_checkpoint(Path(folder) / "best").weights)
            _evaluate(parts, parts.plain_feed(data, data.test), data.test)
        return not parts.sizes.halvings


def _one_process(plan: Plan, examples: int) -> Plan:
    """``plan`` without effect; one share of a private batch is a share of its sampling rate."""
    plan = without_effect(plan)
    if (privacy := plan.semantic.privacy) is None:
        return plan
    rate = min(1.0, plan.semantic.logical_batch / examples)
    privacy = dataclasses.replace(privacy, sample_rate=rate)
    return dataclasses.replace(plan, semantic=dataclasses.replace(plan.semantic, privacy=privacy))


def _snapshot(parts: Parts, done: int, *, best: int) -> Snapshot:
    weights, raw_weights = weights_to_save(parts)
    state = {"raw_weights": raw_weights, "optimizer": parts.optimizer.state_dict()}
    return Snapshot(step=done, best=best, weights=weights, state=state)


def _evaluate(parts: Parts, feed: Feed, images: ImageSet) -> None:
    """One batch: the others take the same memory."""
    count = min(len(images), parts.sizes["evaluation"])
    evaluate(parts.model, feed, count, sizes=parts.sizes, precision=parts.precision, world=parts.world)
