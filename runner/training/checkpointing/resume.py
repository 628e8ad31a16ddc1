"""Finding the checkpoint to resume from, and refusing one of another plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.data.cache.folder_cache import Cache
from runner.data.folders.changed_files import changed_files
from runner.errors import RequestError, RunError, as_typed
from runner.privacy.mechanism.key import SecretKey
from runner.records.metrics import METRICS_FILE, truncate_after
from runner.records.run_file import FINISHED, RUN_FILE, read_run
from runner.training.checkpointing.checkpoint import (
    Checkpoint,
    DamagedCheckpoint,
    discard_after,
    load_checkpoint,
    saved_steps,
)
from runner.training.checkpointing.extension import is_longer, refuse_inexact
from runner.training.checkpointing.kept import refuse_without_state

if TYPE_CHECKING:
    from runner.planning.plan import Plan
    from runner.training.parts import Parts

_TYPED = {
    "task": "task",
    "task.target": "task",
    "norm": "model.norm",
    "weights": "model.weights",
    "logical_batch": "data.batch_size",
    "steps": "trainer.epochs",
    "precision.dtype": "precision.amp_dtype",
    "data.fingerprint": "data",
    "data.origin": "data",
    "data.examples": "data",
    "data.num_classes": "data",
    "privacy": "trainer",
    "privacy.budget": "privacy.epsilon",
    "privacy.draws": "trainer",
    "privacy.adjacency": "privacy",
    "privacy.sampling": "privacy",
    "privacy.solved": "privacy.epsilon",
    "privacy.sample_rate": "data.batch_size",
    "steps_per_epoch": "data.batch_size",
}
"""Parts of the plan that a user types under another name."""

_DERIVED = (
    *("optimizer.lr", "norm", "steps", "steps_per_epoch", "privacy.solved", "privacy.sample_rate", "privacy.delta"),
    *("privacy.noise_multiplier", "privacy.epsilon"),
)
"""Parts of the plan that may follow from others, each before those that may follow from it."""


def find_checkpoint(
    run_dir: Path, plan: Plan, *, warn: Callable[[str], None], cache_dir: str | None = None
) -> Checkpoint | None:
    """The newest whole checkpoint in ``run_dir``; None for a folder without one, where the run starts afresh.

    ``warn`` is told, once, when newer ones are damaged; ``cache_dir`` is ``data.cache_dir``, which knows which files
    were there.

    Raises:
        RequestError: the folder holds a run of another recipe, and names the first key that differs; or of a shorter
            one that does not go on exactly, or of which too little was kept.
        RunError: every checkpoint is damaged, or of another format.
    """
    damaged: list[DamagedCheckpoint] = []
    for path in saved_steps(run_dir / "checkpoints"):
        try:
            checkpoint = load_checkpoint(path)
        except DamagedCheckpoint as error:
            damaged.append(error)
            continue
        if checkpoint.identity != plan.identity:
            if not is_longer(checkpoint.recipe, plan):
                raise identity_mismatch(run_dir, checkpoint.recipe, plan.identity_fields(), cache_dir=cache_dir)
            refuse_inexact(run_dir, checkpoint.recipe, plan)
        refuse_without_state(run_dir, checkpoint, ended_at=0 if damaged else _finished_at(run_dir, checkpoint))
        if damaged:
            warn(f"{damaged[0]}; the run goes on from step {checkpoint.step}, the newest checkpoint that is whole")
        return checkpoint
    if damaged:
        raise RunError(f"none of the {len(damaged)} checkpoints is whole; the newest: {damaged[0]}")
    return None


def _finished_at(run_dir: Path, checkpoint: Checkpoint) -> int:
    """Updates after which the run of ``checkpoint`` was finished; 0 for one that was not."""
    if not (run_dir / RUN_FILE).exists():
        return 0
    record = read_run(run_dir)
    return record.steps if record.status in FINISHED and record.plan.get("identity") == checkpoint.identity else 0


def forget_after(run_dir: Path, checkpoint: Checkpoint | None) -> None:
    """Drop what the resumed run will write again, and what a kill has left half written."""
    step, records = (0, 0) if checkpoint is None else (checkpoint.step, checkpoint.state["records"])
    truncate_after(run_dir / METRICS_FILE, step, records=records)
    for path in run_dir.glob(".*.tmp"):
        path.unlink()
    discard_after(run_dir / "checkpoints", checkpoint)


def grad_sample_of(run_dir: Path, plan: Plan, checkpoint: Checkpoint | None) -> str | None:
    """The way in which a private run computed its gradients; None for a new run or one without privacy.

    Without a checkpoint it is read from ``run.json``, which is written before the first step: the run may have been
    killed before its first save, and another way would round differently.

    Raises:
        RunError: ``run.json`` is not a record of a run.
    """
    if checkpoint is not None:
        return checkpoint.state["grad_sample"]
    if not (run_dir / RUN_FILE).exists():
        return None
    before = read_run(run_dir).plan
    return before["performance"]["grad_sample"] if before.get("identity") == plan.identity else None


def seconds_before(run_dir: Path, checkpoint: Checkpoint | None) -> float:
    """Wall time of the sessions of a run up to ``checkpoint``, from which it goes on; 0 for a new run.

    A session that ended in order says so in ``run.json``; of one that was killed, what its last save knew counts,
    because the updates since are made again.
    """
    if checkpoint is None:
        return 0.0
    if (run_dir / RUN_FILE).exists():
        before = read_run(run_dir)
        saved = before.status in ("interrupted", *FINISHED) and before.steps == checkpoint.step
        if saved and before.plan.get("identity") == checkpoint.identity and before.seconds is not None:
            return before.seconds
    # checkpoints of former versions do not know
    return float(checkpoint.state["standing"].get("run_seconds", 0.0))


def secret_of(checkpoint: Checkpoint | None) -> SecretKey | None:
    """The secret key that a private run must go on with; None for a new run or one without privacy."""
    if checkpoint is None or checkpoint.state["secret_key"] is None:
        return None

    return SecretKey(checkpoint.state["secret_key"])


def refuse_other_noise(run_dir: Path, checkpoint: Checkpoint | None, parts: Parts) -> None:
    """Refuse to go on from ``checkpoint`` with other noise than its own.

    The steps after a checkpoint may have been released before, so that another noise for one of them would be a second
    release of the same gradients, which no account counts.

    Raises:
        RequestError: names the first thing that differs.
    """
    form = noise_form(parts)
    if checkpoint is None or (saved := checkpoint.state.get("noise_form")) == form:
        return
    saved, asked = saved or {}, form or {}
    name = next(name for name in {**saved, **asked} if saved.get(name) != asked.get(name))
    key, before, now = _NOISE[name], saved.get(name), asked.get(name)
    if name == "layout":
        order, other = str(now).split(" ")[0], str(before).split(" ")[0]
        if order != other:
            key, before, now = "hardware.channels_last", other, order
        else:
            before, now = "the trainable weights, in order", "other trainable weights, or in another order"
    raise RequestError(
        key,
        f"noise of {as_typed(now)}",
        f"{as_typed(before)}, as in the checkpoints of {run_dir} (one step never gets two noises), or another"
        " hydra.run.dir",
    )


_NOISE = {"generator": "privacy.secure_noise", "dtype": "precision.amp_dtype", "layout": "model"}
"""What noise is a function of, and the key that a user types for it."""


def noise_form(parts: Parts) -> dict[str, str] | None:
    """What the noise of a private run is a function of besides key and step; None without privacy."""
    form: dict[str, str] | None = getattr(parts.rule, "noise_form", None)
    return form


def identity_mismatch(
    run_dir: Path, saved: dict[str, Any], asked: dict[str, Any], *, cache_dir: str | None = None
) -> RequestError:
    """The refusal to put a run of the recipe ``asked`` where one of ``saved`` is; names the first key that differs.

    What follows from other parts of the plan, as the noise does from the length, is named only where nothing else
    differs.  Of data that have changed it says how, as far as the cache in ``cache_dir`` knows.
    """
    path, before, now = min(
        _differences(saved, asked), key=lambda found: _DERIVED.index(found[0]) if found[0] in _DERIVED else -1
    )
    if path == "data.fingerprint":
        return _other_data(run_dir, saved["data"], asked["data"], cache_dir)
    if path == "steps":  # what epochs, or a budget, came to
        before, now = f"{before} updates", f"{now} updates"
    elif path == "privacy":
        before, now = (f"{'no' if each is None else 'a'} private trainer" for each in (before, now))
    elif path == "privacy.draws":
        now = "augmentation and dropout by the example"
        before = "augmentation and dropout by the place in the batch, for which no epsilon holds"
    return RequestError(
        typed_key(path), now, f"{as_typed(before)}, as in the checkpoints of {run_dir}, or another hydra.run.dir"
    )


def _other_data(run_dir: Path, saved: dict[str, Any], asked: dict[str, Any], cache_dir: str | None) -> RequestError:
    for key in ("image_size", "channels"):
        if saved.get(key) != asked.get(key) and saved.get("origin") == asked.get("origin"):
            expected = f"{saved.get(key)}, as in the checkpoints of {run_dir}, or another hydra.run.dir"
            return RequestError(f"data.{key}", asked.get(key), expected)
    before, now = saved.get("examples"), asked.get("examples")
    counts = f"{now} training images" + ("" if before == now else f", {before} when the run was begun")
    if saved.get("origin") == asked.get("origin"):
        got, same = f"the same images, decoded, split or limited otherwise ({counts})", "the keys of data"
    else:
        files = changed_files(Cache(cache_dir), str(saved.get("origin")), str(asked.get("origin")))
        got, same = f"{files or 'images with other contents'} ({counts})", "the images"
    return RequestError(
        "data", got, f"{same} that the run was begun with, as in the checkpoints of {run_dir}, or another hydra.run.dir"
    )


def _differences(saved: Any, asked: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Path, saved and asked value of every difference, the leaves of mappings apart."""
    if isinstance(saved, dict) and isinstance(asked, dict):
        for key in {**saved, **asked}:
            yield from _differences(saved.get(key), asked.get(key), f"{path}.{key}".lstrip("."))
    elif saved != asked:
        yield path, saved, asked


def typed_key(path: str) -> str:
    """The key that a user types for a part of the plan, which is named by its path."""
    if path in _TYPED:
        return _TYPED[path]
    key = path.replace(".options.", ".").replace(".target", "._target_")
    return key if "." in key or key == "seed" else f"trainer.{key}"
