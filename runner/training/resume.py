"""Finding the checkpoint that a run goes on from, and refusing one that belongs to another recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from runner.config.errors import RequestError
from runner.records.metrics import METRICS_FILE, truncate_after
from runner.training.checkpoint import Checkpoint, load_checkpoint

if TYPE_CHECKING:
    from runner.plan.plan import Plan
    from runner.privacy.key import SecretKey


def find_checkpoint(run_dir: Path, plan: Plan) -> Checkpoint | None:
    """The last checkpoint in ``run_dir``; None for a folder without one, where the run starts afresh.

    Raises:
        RequestError: the folder holds a run of another recipe, or one that is finished.
        RunError: the checkpoint is damaged.
    """
    last = run_dir / "checkpoints" / "last"
    if not last.exists():
        return None
    checkpoint = load_checkpoint(last)
    if checkpoint.identity != plan.identity:
        raise RequestError(
            "hydra.run.dir",
            run_dir,
            "a folder without the checkpoints of another recipe, or the recipe that they are of",
        )
    return checkpoint


def forget_after(run_dir: Path, checkpoint: Checkpoint | None) -> None:
    """Drop the records that the resumed run will write again."""
    step, records = (0, 0) if checkpoint is None else (checkpoint.step, checkpoint.state["records"])
    truncate_after(run_dir / METRICS_FILE, step, records=records)


def grad_sample_of(checkpoint: Checkpoint | None) -> str | None:
    """The way in which a private run computed its gradients; None for a new run or one without privacy."""
    return None if checkpoint is None else checkpoint.state["grad_sample"]


def secret_of(checkpoint: Checkpoint | None) -> SecretKey | None:
    """The secret key that a private run must go on with; None for a new run or one without privacy."""
    if checkpoint is None or checkpoint.state["secret_key"] is None:
        return None
    from runner.privacy.key import SecretKey

    return SecretKey(checkpoint.state["secret_key"])
