"""A short run for measuring memory: one step of each kind, in the order of a run, on the run's own data.

Nothing comes of it.  Weights stay where they are, what is written is removed, and a private run draws from a key that
is thrown away: what is learnt is how much memory numbers of such sizes take, whatever they are.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from runner.autotune.probe import without_effect
from runner.autotune.unread_pixels import read_on
from runner.data.feed import Feed
from runner.privacy.independence.mixing_check import fixed_randomness
from runner.privacy.mechanism.key import SecretKey
from runner.training.checkpointing.checkpoint import load_checkpoint
from runner.training.checkpointing.save_schedule import Saving, Snapshot
from runner.training.distributed.world import SingleProcess, torch_device
from runner.training.eval_weights import weights_to_save
from runner.training.evaluate import evaluate
from runner.training.parts import Parts, build_parts
from runner.training.step import TrainStep
from runner.training.torch_settings import torch_settings

if TYPE_CHECKING:
    from runner.data.images import ImageData, ImageSet
    from runner.plan.plan import Plan

_SEED = 20_262


def run_in_short(plan: Plan, data: ImageData, scratch: Path) -> int | None:
    """Do what a run of ``plan`` does, in one process; None where the memory sufficed for smaller batches alone.

    ``scratch`` is an existing folder for the checkpoints.  The answer is how many bytes of mapped images the run would
    read beyond those that were read here.

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
        unread = read_on(data.train, parts.feed, 2 * parts.plan.semantic.logical_batch)
        if val is not None and data.val is not None:
            unread += _evaluate(parts, val, data.val)
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
            unread += _evaluate(parts, parts.plain_feed(data, data.test), data.test)
        return None if parts.sizes.halvings else unread


def _one_process(plan: Plan, examples: int) -> Plan:
    """``plan`` without effect; one share of a private batch is a share of its sampling rate."""
    plan = without_effect(plan)
    if plan.semantic.privacy is None:
        return plan
    return plan.evolve({"semantic.privacy.sample_rate": min(1.0, plan.semantic.logical_batch / examples)})


def _snapshot(parts: Parts, done: int, *, best: int) -> Snapshot:
    weights, raw_weights = weights_to_save(parts)
    state = {"raw_weights": raw_weights, "optimizer": parts.optimizer.state_dict()}
    return Snapshot(step=done, best=best, weights=weights, state=state)


def _evaluate(parts: Parts, feed: Feed, images: ImageSet) -> int:
    """One batch: the others take the same memory, but for the bytes of their own pixels that come back."""
    count = min(len(images), parts.sizes["evaluation"])
    evaluate(parts.model, feed, count, sizes=parts.sizes, precision=parts.precision, world=parts.world)
    return read_on(images, feed, count)
