"""A run that goes on beyond its end: where that gives the bits of a run that was as long from the beginning."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.config.words.shell_quoting import folder_line
from runner.errors import RequestError
from runner.optim.schedules import Plateau, Schedule, WarmUp, build_schedule
from runner.records.run_file import RUN_FILE, read_run

if TYPE_CHECKING:
    from runner.planning.plan import Plan
    from runner.training.checkpointing.checkpoint import Checkpoint

_EXTENDED = "extended:"


def is_longer(saved: dict[str, Any], plan: Plan) -> bool:
    """Whether ``plan`` is the recipe ``saved`` with more updates; under DP also with the noise or epsilon of more."""
    asked = plan.identity_fields()
    if saved["steps"] >= asked["steps"]:
        return False
    follows = {"steps": asked["steps"]}
    if saved.get("privacy") is not None and asked.get("privacy") is not None:
        changed = {name: asked["privacy"].get(name) for name in ("epsilon", "noise_multiplier")}
        follows["privacy"] = {**saved["privacy"], **changed}
    return {**saved, **follows} == asked


def refuse_inexact(run_dir: Path, saved: dict[str, Any], plan: Plan) -> None:
    """Refuse to go on as ``plan`` says with a run of the shorter recipe ``saved``, where more than its end differs.

    A longer run would have done the same up to that end if its learning rates there are the same, and if it would have
    evaluated there as well.

    Raises:
        RequestError: says why it would not have, and names the run that starts from the weights.
    """
    if (reason := _difference(saved, plan)) is None:
        return
    before, now = saved["steps"], plan.semantic.steps
    start = f"{folder_line('model.weights', run_dir)} in another hydra.run.dir"
    raise RequestError(
        "trainer.epochs",
        f"{now} updates for a run of {before}, {reason}",
        f"the {before} updates of {run_dir}, or a run that starts from its weights: {start}",
    )


def _difference(saved: dict[str, Any], plan: Plan) -> str | None:
    """Why a run of ``plan`` would not have come by the end of ``saved``; None where it would have."""
    before, semantic = saved["steps"], plan.semantic
    if semantic.privacy is not None:
        return "which is private: the ledger holds what it planned before its first step, and nothing is added to that"
    long, short = (
        build_schedule(semantic.scheduler, steps=steps, steps_per_epoch=semantic.steps_per_epoch)
        for steps in (semantic.steps, before)
    )
    own = semantic.scheduler.name
    if any(long.factor(step) != short.factor(step) for step in range(before)):
        return f"whose learning rates depend on its length (scheduler={own})"
    if long.state_dict() and not _is_plateau(long):
        return f"whose schedule has a state that may depend on its length (scheduler={own})"
    if not plan.epoch_ends(before - 1):
        return "which ended within an epoch"
    validated = any(split.name == "val" for split in plan.splits)
    if validated and plan.epoch_of(before - 1) % semantic.eval_every:
        return f"which ended between two evaluations (trainer.eval_every={semantic.eval_every})"
    return None


def _is_plateau(schedule: Schedule) -> bool:
    """Whether its state follows from the results alone."""
    return isinstance(schedule.after if isinstance(schedule, WarmUp) else schedule, Plateau)


def extension_notes(run_dir: Path, checkpoint: Checkpoint | None, plan: Plan) -> tuple[str, ...]:
    """What the record of a run of ``plan`` that was made longer, now or in an earlier session, says of it."""
    if checkpoint is None:
        return ()
    earlier = read_run(run_dir).notes if (run_dir / RUN_FILE).exists() else ()
    notes = [note for note in earlier if note.startswith(_EXTENDED)]
    if checkpoint.identity != plan.identity:
        notes.append(f"{_EXTENDED} begun as a run of {checkpoint.recipe['steps']} updates, to {plan.semantic.steps}")
    return tuple(dict.fromkeys(notes))
