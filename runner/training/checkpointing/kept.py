"""What stays of a finished run's checkpoints: ``trainer.keep``."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from runner.config.words.shell_quoting import folder_line
from runner.errors import RequestError
from runner.training.checkpointing.checkpoint import Checkpoint, find_saved, keep_weights_alone, saved_steps

if TYPE_CHECKING:
    from runner.config.schema import Keep


def drop_unkept(folder: Path, keep: Keep) -> None:
    """Remove from ``folder``, the checkpoints of a finished run, what ``keep`` does not name.

    Raises:
        RunError: the best checkpoint is damaged; it is left as it is.
        OSError: something cannot be removed.
    """
    if keep == "best_and_last":
        return
    best = find_saved(folder, "best").resolve()
    if not best.is_dir():  # none was chosen: the last weights count
        best = find_saved(folder, "last").resolve()
    for path in saved_steps(folder):
        if path.name != best.name:
            shutil.rmtree(path)
    if not (folder / "last").exists():
        (folder / "last").unlink(missing_ok=True)
    if keep == "weights":
        keep_weights_alone(best)


def refuse_without_state(run_dir: Path, checkpoint: Checkpoint | None, *, ended_at: int = 0) -> None:
    """Refuse to go on with a run of which ``trainer.keep`` has left too little.

    ``checkpoint`` is the newest one; ``ended_at`` is the number of updates after which the run was finished.

    Raises:
        RequestError: names the key, and the run that starts from the weights.
    """
    if checkpoint is None or (checkpoint.resumable and checkpoint.step >= ended_at):
        return
    kept = "best" if checkpoint.resumable else "weights"
    what = f"the checkpoint of step {checkpoint.step} alone" if checkpoint.resumable else "the weights alone"
    start = folder_line("model.weights", run_dir)
    raise RequestError(
        "trainer.keep",
        f"{kept}, which left {what} of the finished run in {run_dir}",
        f"a run that starts from its weights: {start} in another hydra.run.dir; with best_and_last it would go on",
    )
