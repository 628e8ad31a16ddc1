"""The planned privacy cost of a grid's cells, where it is known before the first of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from runner.config.request.request import Request
from runner.config.schema import PrivacyConfig, RunConfig
from runner.errors import RequestError, RunError
from runner.execution.ledger_entry import planned_run
from runner.privacy.accounting.random_stopping import TrialCount
from runner.privacy.accounting.sweep_epsilon import admit_grid, round_fits
from runner.privacy.ledger.chain import BrokenChain
from runner.privacy.ledger.ledger import Ledger, contents_of, ledger_folder
from runner.sweeping.privacy_file import SPENDING_FILE, identify_sweep

if TYPE_CHECKING:
    from runner.privacy.ledger.ledger import PlannedRun


def cells_to_plan(request: Request) -> list[RunConfig]:
    """The private cells of a grid whose spending has to be known before the first of them; none for other sweeps.

    A sweep that goes on in its folder is left to the ledger, which knows what it has spent.
    """
    private = [config for config in request.configs if config.privacy.enabled]
    asked = any(_limit(config) is not None or _is_drawn(config) for config in private)
    if request.sweep_dir is None or request.cells is None or not asked:
        return []
    return [] if (request.sweep_dir / SPENDING_FILE).exists() else private


def planned_cells(configs: Sequence[RunConfig]) -> dict[str, list[PlannedRun]] | None:
    """Every cell as the ledger would record it, by the contents of its data.

    None when a cell cannot be planned, because data are missing, say: that cell fails by itself, and others may run.
    """
    from runner.execution.job import plan_run

    # Cells that differ in the model alone, say, spend the same: solving for the noise takes a second.
    known: dict[str, tuple[str, PlannedRun]] = {}
    found: dict[str, list[PlannedRun]] = {}
    for config in configs:
        spends = repr((config.data, config.trainer, config.privacy, config.hardware))
        if spends not in known:
            try:
                plan = plan_run(config)
            except RequestError:
                return None
            known[spends] = contents_of(plan.semantic.data.ledger_name), planned_run(plan, folder="", sweep="planned")
        contents, run = known[spends]
        found.setdefault(contents, []).append(run)
    return found


def count_of(request: Request) -> TrialCount | None:
    """From what the number of trials of a grid will be drawn; None for composition."""
    first = next(config for config in request.configs if config.privacy.enabled)
    if not _is_drawn(first) or request.cells is None:
        return None
    mean = first.privacy.selection_trials or float(request.cells)
    return TrialCount(mean=mean, shape=first.privacy.selection_shape)


def refuse_over_budget(request: Request, planned: dict[str, list[PlannedRun]]) -> None:
    """Refuse a grid that would pass ``privacy.sweep_epsilon``, or whose trials break a condition of random stopping.

    Raises:
        RequestError: names how many of the cells fit.
    """
    private = [config for config in request.configs if config.privacy.enabled]
    limit = min((limit for config in private if (limit := _limit(config)) is not None), default=None)
    for runs in planned.values():
        admit_grid(limit, runs, count_of(request), in_rounds=request.until_decided)


def budget_has_room(sweep_dir: Path, privacy: PrivacyConfig, planned: dict[str, list[PlannedRun]]) -> bool:
    """Whether the next cells of a sweep whose rounds depend on results stay within the budget it began with.

    ``planned`` are the cells by the contents of their data, as ``planned_cells`` finds them.

    Raises:
        RunError: the privacy ledger is broken or cannot be read.
    """
    sweep = identify_sweep(sweep_dir)
    try:
        for contents, runs in planned.items():
            ledger = Ledger(ledger_folder(privacy.ledger_dir), contents)
            if not round_fits(sweep, runs, ledger.entries(), ledger.lines()):
                return False
    except BrokenChain as broken:
        raise RunError(f"the privacy ledger is broken: {broken}") from broken
    except OSError as error:
        raise RunError(f"the privacy ledger cannot be read: {error.strerror or error}") from error
    return True


def _limit(config: RunConfig) -> float | None:
    return config.privacy.sweep_epsilon


def _is_drawn(config: RunConfig) -> bool:
    return config.privacy.selection == "random_stopping"
