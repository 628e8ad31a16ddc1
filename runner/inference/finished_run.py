"""A run's folder as inference reads it: configuration, plan and verified weights, all of one run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runner.config.choice import evolve
from runner.config.rules import rules
from runner.config.schema import RunConfig
from runner.config.untrusted.run_config import CONFIG_FILE, read_values
from runner.config.words.pluralize import pluralize
from runner.data.cache.folder_cache import cache_of_run
from runner.data.cache.image_store import MARGIN
from runner.errors import RequestError, RunError
from runner.planning.plan import Plan
from runner.planning.restore import restore_plan
from runner.privacy.ledger.void_runs import void_reason
from runner.records.plugins_used import require_plugins
from runner.records.progress import budget_text
from runner.records.run_file import FINISHED, RUN_FILE, RunRecord, read_run
from runner.statement.facts import Share, find_sweep, read_share
from runner.training.checkpointing.checkpoint import find_saved, load_checkpoint
from runner.training.model import build_model

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Privacy:
    """The guarantee of a model trained with differential privacy, and so of whatever is predicted by it."""

    epsilon: float | None
    """None where the noise came from a known seed, which protects nobody, and where it is ``void``."""
    delta: float
    adjacency: str
    accountant: str
    void: str | None = None
    """Why the epsilon that the run recorded does not hold."""
    sweep: str | None = None
    """What else counts, because the run is one of a sweep; None for a run of its own."""

    def __str__(self) -> str:
        if self.void is not None:
            return f"void: {self.void}"
        if self.epsilon is None:
            return "NOT private: privacy.unsafe_noise_seed was set"
        alone = f"{budget_text(self.epsilon, self.delta)} ({self.accountant})"
        return alone if self.sweep is None else f"{alone} of this run alone; {self.sweep}"


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A run that has a checkpoint."""

    folder: Path
    config: RunConfig
    plan: Plan
    identity: str
    """Of the run's recipe, as the version that made the run computed it."""
    test_accuracy: float | None
    """What the run itself measured at its end; None where it has not."""
    privacy: Privacy | None
    checkpoint: Path
    """The folder of the checkpoint, links resolved."""
    status: str
    """Of the run: how it ended, or ``running``."""
    step: int
    """Updates after which the weights were saved."""
    weights: dict[str, torch.Tensor]
    ledger_entry: str | None
    """The run's name in the privacy ledger; None for a run without privacy."""

    @property
    def unfinished(self) -> str | None:
        """What is to be said of weights that are not the end of their run; None for a run that has finished."""
        if self.status in FINISHED:
            return None
        done = f"{self.step:,} of {pluralize(self.plan.semantic.steps, 'update')}"
        return f"the run has not finished ({self.status}): these are its weights after {done}"

    @property
    def weights_file(self) -> Path:
        """The weights as the run saved them."""
        return self.checkpoint / "model.safetensors"

    @property
    def shortest(self) -> int:
        """Shorter side in pixels that files are decoded for, which changes the bits of large JPEGs.

        As the run's own: photos for random crops are decoded a little larger.
        """
        data = self.plan.semantic.data
        return max(data.image_size, round(data.image_size * MARGIN) if data.augment.random_resized_crop else 0)

    def with_data_in(self, root: Path | None) -> FinishedRun:
        """The same run, for data that have moved to the folder ``root``; None where they are still in their place.

        Raises:
            RequestError: its data come from no folder.
        """
        if root is None:
            return self
        data = self.config.data
        if data.root is None:
            raise RequestError("data_root", root, f"nothing: the data of this run ({data.name}) come from no folder")
        return evolve(self, {"config.data.root": str(root)})

    def build_model(self, dtype: torch.dtype) -> torch.nn.Module:
        """The network with the checkpoint's weights, on the CPU, in ``dtype`` and in evaluation mode.

        Raises:
            RequestError: the weights are not those of this network.
        """
        # the checkpoint's weights take the place of the starting ones
        model = build_model(self.plan.evolve({"semantic.model.weights": None}))
        try:
            model.load_state_dict(self.weights)
        except RuntimeError as error:
            wrong = " ".join(str(error).split())[:200]
            raise RequestError("checkpoint", f"{self.checkpoint} ({wrong})", "weights of the run's model") from error
        return model.to(dtype).eval().requires_grad_(False)


def open_run(folder: Path, checkpoint: str = "best") -> FinishedRun:
    """Read the run in ``folder``; no code that lies there can run.

    Args:
        folder: What ``hydra.run.dir`` was.
        checkpoint: ``best``, ``last``, or a folder's name in ``checkpoints/``.

    Raises:
        RequestError: ``folder`` holds no run with that checkpoint, or its parts do not belong together.
    """
    plan, record = read_record(folder)
    config = read_config(folder)
    if config.model != plan.semantic.model:
        raise RequestError("run", f"{folder} ({CONFIG_FILE} and {RUN_FILE} name different models)", "files of one run")
    path = find_saved(folder / "checkpoints", checkpoint)
    if not path.is_dir():
        saved = sorted(found.name for found in (folder / "checkpoints").glob("*") if not found.name.startswith("."))
        raise RequestError("checkpoint", checkpoint, f"one of {', '.join(saved)}" if saved else "a run that saved one")
    try:
        found = load_checkpoint(path)
    except RunError as error:
        raise RequestError("checkpoint", f"{error}", "a checkpoint as the run wrote it") from error
    if found.identity != record.plan["identity"]:
        raise RequestError("checkpoint", f"{path} (saved by another run)", f"a checkpoint of {plan.name}")
    if checkpoint == "last" and record.status in FINISHED and found.step < record.steps:
        kept = f"best: trainer.keep={config.trainer.keep} has kept no other checkpoint of this run"
        raise RequestError("checkpoint", checkpoint, kept)
    return FinishedRun(
        folder=folder,
        config=config,
        plan=plan,
        identity=found.identity,
        test_accuracy=record.metrics.test_accuracy,
        privacy=_privacy(folder, config, plan, record),
        checkpoint=found.path,
        status=record.status,
        step=found.step,
        weights=found.weights,
        ledger_entry=found.state["ledger_entry"],
    )


def read_record(folder: Path) -> tuple[Plan, RunRecord]:
    """The plan of the run in ``folder``, finished or not, and its record.

    Raises:
        RequestError: there is none, or it did not begin.
    """
    expected = f"the folder of a run, with its {RUN_FILE}"
    if not (folder / RUN_FILE).is_file():
        inner = sorted(path.parent for path in folder.glob(f"*/{RUN_FILE}")) if folder.is_dir() else []
        got = f"{folder} (no {RUN_FILE})" if folder.is_dir() else f"{folder} (no such folder)"
        raise RequestError("run", got, expected, nearest=str(inner[0]) if inner else None)
    try:
        record = read_run(folder)
        if not record.plan:
            raise RequestError("run", f"{folder} ({record.status} before it began)", "a run with a checkpoint")
        return restore_plan(record.plan), record
    except (RunError, OSError) as error:
        raise RequestError("run", f"{folder} ({error})", expected) from error


def read_config(folder: Path) -> RunConfig:
    """The configuration of the run in ``folder``, finished or not; no code that lies there can run.

    Raises:
        RequestError: there is none, or none that can be read.
    """
    try:
        config = read_values(folder)
    except (OSError, RequestError) as error:
        raise RequestError("run", f"{folder} ({error})", f"the folder of a run, with its {CONFIG_FILE}") from error
    require_plugins(folder, "run", config)
    # the folder may come from a stranger: nothing outside of the trusted packages is imported for it
    rules.check_values(config)
    config.data.cache_dir = cache_of_run(config.data.cache_dir, folder)
    return config


def _privacy(folder: Path, config: RunConfig, plan: Plan, record: RunRecord) -> Privacy | None:
    """The guarantee of all steps; of a run that was killed, that of the steps which it planned."""
    planned = plan.semantic.privacy
    if planned is None:
        return None
    void = void_reason(record.plan)
    epsilon = planned.epsilon if record.privacy is None else record.privacy.epsilon
    share = read_share(folder, find_sweep(folder), drawn=config.privacy.selection == "random_stopping")
    return Privacy(
        epsilon=epsilon if planned.unsafe_noise_seed is None and void is None else None,
        delta=planned.delta,
        adjacency=planned.adjacency,
        accountant=planned.accountant,
        void=void,
        sweep=None if share is None else _of_its_sweep(share),
    )


def _of_its_sweep(share: Share) -> str | None:
    """What publishing a run takes that is one of several."""
    if share.drawn and not share.chosen:
        return "not for publication: another one may be published of the runs that were drawn, or none"
    best = share.publish_best
    if best is None or share.cells < 2:
        return None
    if not math.isfinite(best.epsilon):
        return "as the best of its sweep no bound is known"
    return f"as the best of its sweep {budget_text(best.epsilon, best.delta)}"
