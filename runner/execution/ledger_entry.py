"""A private run's entry in the ledger: recorded before the first step, and not at all where it may not start."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from runner.errors import RequestError
from runner.privacy.accounting.sweep_epsilon import Terms, admit
from runner.privacy.ledger.ledger import KEY, Ledger, LedgerSession, PlannedRun, contents_of, ledger_folder
from runner.privacy.ledger.overlap import keep_sketch
from runner.training.distributed.agreement import on_main_process

if TYPE_CHECKING:
    from runner.config.schema import PrivacyConfig
    from runner.data.images import Contents
    from runner.execution.sweep_context import SweepContext
    from runner.planning.plan import Plan
    from runner.training.checkpointing.checkpoint import Checkpoint
    from runner.training.distributed.world import World


def open_entry(
    config: PrivacyConfig,
    plan: Plan,
    world: World,
    *,
    run_dir: Path,
    sweep: SweepContext | None,
    checkpoint: Checkpoint | None,
    contents: Contents | None = None,
) -> LedgerSession | None:
    """Record the run of ``plan``, or that it goes on; None for an ordinary run and in every process but the first.

    ``contents`` of its data are kept beside the ledger, to find others that hold some of the same images.

    ``sweep`` is the sweep that the run is a cell of.

    Raises:
        RequestError: the ledger cannot be written or is broken, or the run would pass ``privacy.sweep_epsilon``, or it
            breaks a condition of ``privacy.selection``; in every process alike.
    """
    if plan.semantic.privacy is None:
        return None

    def begin() -> LedgerSession:
        draw, learns = (None, False) if sweep is None else (sweep.draw, sweep.learns)
        run = planned_run(plan, folder=shown_folder(run_dir), sweep=None if sweep is None else sweep.identity)
        terms = Terms(limit=config.sweep_epsilon, draw=draw, learns=learns, split=plan.semantic.data.fingerprint)
        ledger = Ledger(ledger_folder(config.ledger_dir), contents_of(plan.semantic.data.ledger_name))
        entry, step = (None, 0) if checkpoint is None else (checkpoint.state["ledger_entry"], checkpoint.step)
        if draw is not None:
            draw.require_ledger(ledger.folder)
        session = ledger.begin(run, entry=entry, step=step, admit=functools.partial(admit, terms, run))
        if contents is not None:
            _keep_sketch(ledger, contents, earlier=plan.semantic.data.origin)
        return session

    return on_main_process(world, begin)


def _keep_sketch(ledger: Ledger, contents: Contents, *, earlier: str) -> None:
    try:
        keep_sketch(ledger, contents.sketch, earlier=earlier)
    except OSError as error:
        reason = error.strerror or str(error)
        raise RequestError(KEY, f"{ledger.folder} ({reason})", "a folder that can be written") from error


def shown_folder(run_dir: Path) -> str:
    """``run_dir`` as a record may show it: below the working folder, or its name alone; never a path of the home."""
    run_dir = run_dir.absolute()
    here = Path.cwd()
    return str(run_dir.relative_to(here)) if run_dir.is_relative_to(here) else run_dir.name


def planned_run(plan: Plan, *, folder: str, sweep: str | None) -> PlannedRun:
    """What the ledger keeps of a private ``plan``."""
    semantic, privacy = plan.semantic, plan.semantic.privacy
    assert privacy is not None
    return PlannedRun(
        data=semantic.data.name,
        examples=semantic.data.examples,
        identity=plan.identity,
        name=plan.name,
        folder=folder,
        sweep=sweep,
        private=privacy.unsafe_noise_seed is None,
        sample_rate=privacy.sample_rate,
        noise_multiplier=privacy.noise_multiplier,
        steps=semantic.steps,
        delta=privacy.delta,
        epsilon=privacy.epsilon,
        accountant=privacy.accountant,
        adjacency=privacy.adjacency,
        sampling=privacy.sampling,
        validation=privacy.validation,
        draws=privacy.draws,
    )
