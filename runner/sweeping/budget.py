"""The planned privacy cost of a grid's cells, where it is known before the first of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from runner.config.request.request import Request
from runner.config.schema import RunConfig
from runner.errors import RequestError
from runner.execution.ledger_entry import planned_run
from runner.privacy.accounting.random_stopping import TrialCount
from runner.privacy.accounting.sweep_epsilon import admit_grid
from runner.privacy.ledger.ledger import contents_of
from runner.sweeping.privacy_file import SPENDING_FILE

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
        admit_grid(limit, runs, count_of(request))


def _limit(config: RunConfig) -> float | None:
    return config.privacy.sweep_epsilon


def _is_drawn(config: RunConfig) -> bool:
    return config.privacy.selection == "random_stopping"
