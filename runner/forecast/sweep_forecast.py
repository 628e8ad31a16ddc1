"""The forecast of a sweep: each cell, all together, and the privacy cost of publishing them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.config.choice import evolve
from runner.config.looks import plan_looks
from runner.config.request.request import Request
from runner.config.request.search_config import SWEEPER, load_search
from runner.config.rules.rules import value_at
from runner.config.schema import RunConfig
from runner.config.words.pluralize import pluralize
from runner.errors import RequestError, RunError, as_typed, plainly
from runner.forecast.assess import assess
from runner.forecast.describe import described
from runner.forecast.forecast import Interval
from runner.forecast.quantities import mib, seconds_text, time_text
from runner.forecast.seeds_needed import SeedsForecast, describe_seeds, described_seeds, forecast_seeds
from runner.privacy.accounting.sweep_epsilon import best_of, compose_grid
from runner.processes.fork_server import ForkServer
from runner.records.progress import budget_text
from runner.report.one_computation import is_one_plan
from runner.sweeping.budget import count_of, planned_cells, refuse_over_budget
from runner.sweeping.preload import modules_for

if TYPE_CHECKING:
    from runner.forecast.assess import Assessment
    from runner.privacy.accounting.composition import Composed
    from runner.privacy.ledger.ledger import PlannedRun


@dataclass(frozen=True, kw_only=True)
class CellForecast:
    """Cells of one kind: they differ in what costs nothing, such as the seed or the learning rate."""

    count: int
    what: tuple[str, ...]
    """The keys, with their values, by which they differ from those of other kinds beside model, trainer and type."""
    assessment: Assessment


@dataclass(frozen=True, kw_only=True)
class SweepPlan:
    """What a sweep will be."""

    cells: int
    """Runs; of a search its trials, and those on fresh seeds."""
    at_a_time: int
    """Runs that the launcher keeps going."""
    kinds: tuple[CellForecast, ...]
    seconds: Interval
    """Wall time of all runs together."""
    price: Interval | None
    halving: bool
    """Whether cells will be stopped early."""
    search: bool
    """Whether the trials are drawn as it goes, so that the first stands for all of them."""
    spent: tuple[tuple[str, int, Composed], ...]
    """Of each data set with private cells: its name, their number, and what publishing all of them spends."""
    seeds: SeedsForecast | None
    """What its question needs; None where it compares nothing."""
    cells_a_seed: int
    room: int | None
    """With ``comparison.until=decided`` and private cells: the last planned look that their budget has room for."""
    budget: float | None
    """That budget."""
    best: Composed | None
    """What publishing the best alone spends where ``privacy.selection=random_stopping``; None otherwise."""


def plan_sweep(request: Request, *, probe: bool) -> SweepPlan:
    """Plan the sweep of ``request``; each kind of cell is assessed once, in a process of its own.

    Raises:
        RequestError: a cell does not fit the data or the machine, or all of them pass ``privacy.sweep_epsilon``.
        RunError: a cell cannot be assessed.
    """
    search = request.cells is None
    cells = request.cells or _trials(request)
    alike: dict[str, list[RunConfig]] = {}
    for config in request.configs:
        alike.setdefault(_cost_key(config), []).append(config)

    # each cell will hold what any of them needs, and nothing of an earlier one
    with ForkServer(modules_for(request.configs, searched=search) if probe else []) as server:
        kinds = tuple(
            CellForecast(
                count=cells if search else len(configs),
                what=() if search else _values_of(configs, request.varied),
                assessment=server.call(assess, configs[0], probe=probe),
            )
            for configs in alike.values()
        )
    at_a_time = _at_a_time(request)
    spent, best, room = _spending(request, cells)
    repeats = len({config.seed for config in request.configs})
    return SweepPlan(
        cells=cells,
        at_a_time=at_a_time,
        kinds=kinds,
        seconds=_sum([(kind.count, kind.assessment.forecast.seconds) for kind in kinds], at_a_time),
        price=_price(kinds),
        halving=request.halving,
        search=search,
        spent=spent,
        room=room,
        budget=min(
            (found for one in request.configs if (found := one.privacy.sweep_epsilon) is not None), default=None
        ),
        best=best,
        cells_a_seed=max(1, cells // repeats),
        seeds=None if search else _seeds(request, kinds, repeats),
    )


def describe_sweep(sweep: SweepPlan) -> list[str]:
    """The plan of a sweep in lines for people."""
    what = f"{pluralize(sweep.cells, 'trial')} of a search" if sweep.search else pluralize(sweep.cells, "cell")
    if sweep.seeds is not None and len(sweep.seeds.looks) > 1:
        what += " to the first look"
    lines = [f"{what}, {sweep.at_a_time} at a time: a plan, nothing was run"]
    for kind in sweep.kinds:
        found = kind.assessment
        spent = found.plan.semantic.privacy
        ending = "" if spent is None else f", {budget_text(spent.epsilon, spent.delta)}"
        semantic = found.plan.semantic
        name = "-".join((semantic.data.name, semantic.model.name, found.plan.trainer, semantic.precision.dtype))
        lines.append(
            f"{kind.count:>4} x {' '.join((name, *kind.what))}: {seconds_text(found.forecast.seconds.expected)},"
            f" {mib(found.forecast.peak_bytes.expected)}{ending}"
        )
        lines += [f"       warning {t.key}: {t.what} ({t.evidence}); {t.cure}" for t in found.warnings]
    shorter = ", pruning left out" if sweep.search else ", as if halving stopped nothing" if sweep.halving else ""
    lines += [
        f"note       {one} and {other} are the same computation (one plan identity): their difference would be noise"
        for one, other in _same_plans(sweep.kinds)
    ]
    lines.append(f"time       {time_text(sweep.seconds, sweep.kinds[0].assessment.device)}{shorter}")
    if sweep.seeds is not None:
        cells = sweep.cells_a_seed
        share = cells / sweep.cells
        whole = sweep.seconds
        one = Interval(expected=share * whole.expected, low=share * whole.low, high=share * whole.high)
        lines += describe_seeds(sweep.seeds, cells=cells, seconds=one)
    if sweep.price is not None:
        lines.append(f"price      {sweep.price.expected:.2g} ({sweep.price.low:.2g} to {sweep.price.high:.2g})")
    for name, count, composed in sweep.spent:
        figure = budget_text(composed.epsilon, composed.delta)
        every = f"{'all ' if count > 1 else ''}{pluralize(count, 'private cell')}"
        lines.append(f"privacy    publishing {every} on {name}: {figure} ({composed.accountant})")
    if sweep.room is not None:
        lines.append(
            f"           the sweep spends privacy.sweep_epsilon={plainly(sweep.budget)} whatever it finds, enough"
            f" for {pluralize(sweep.room, 'seed')} a recipe"
        )
    if sweep.best is not None:
        lines.append(f"           publishing the best alone: {budget_text(sweep.best.epsilon, sweep.best.delta)}")
    return lines


def described_sweep(sweep: SweepPlan) -> dict[str, Any]:
    """The same as plain values, for JSON."""
    return {
        "cells": sweep.cells,
        "at_a_time": sweep.at_a_time,
        "search": sweep.search,
        "seconds": sweep.seconds,
        "price": sweep.price,
        "seeds": None if sweep.seeds is None else described_seeds(sweep.seeds),
        "kinds": [{"count": kind.count, "what": kind.what, **described(kind.assessment)} for kind in sweep.kinds],
        "privacy": {
            "publish_all": [{"data": name, "cells": n, **dataclasses.asdict(spent)} for name, n, spent in sweep.spent],
            "room_for_seeds": sweep.room,
            "publish_best": None if sweep.best is None else dataclasses.asdict(sweep.best),
        },
    }


def _cost_key(config: RunConfig) -> str:
    """What two cells have in common that take the same: everything but the values that no kernel sees."""
    unseen = {"seed": 0, "name": None, "optimizer.lr": 0.1, "optimizer.weight_decay": 0.0}
    return repr(evolve(config, unseen | {"scheduler.warmup_epochs": 0.0, "scheduler.warmup_start": 0.0}))


def _values_of(configs: Sequence[RunConfig], varied: Collection[str]) -> tuple[str, ...]:
    """The ``varied`` keys in which ``configs`` do not differ; what a group chooses is named by its own name."""
    values = {key: {as_typed(value_at(config, key)) for config in configs} for key in varied if "." in key}
    return tuple(f"{key}={next(iter(found))}" for key, found in sorted(values.items()) if len(found) == 1)


def _same_plans(kinds: Sequence[CellForecast]) -> list[tuple[str, str]]:
    """Kinds of cells, by what was typed for them, whose plan is that of an earlier kind."""
    plans = [(" ".join(kind.what), kind.assessment.plan.as_dict()) for kind in kinds]
    return [
        (earlier[0], what)
        for number, (what, plan) in enumerate(plans)
        if (earlier := next((one for one in plans[:number] if is_one_plan(one[1], plan)), None)) is not None
    ]


def _trials(request: Request) -> int:
    assert request.hydra is not None
    sweeper = request.hydra.sweeper
    if sweeper._target_ == SWEEPER:
        search = load_search(sweeper)
        return search.n_trials + search.confirm
    raise RequestError("hydra/sweeper", sweeper._target_, "grid or optuna, whose number of runs is known beforehand")


def _at_a_time(request: Request) -> int:
    assert request.hydra is not None
    jobs = request.hydra.launcher.get("n_jobs", 1)
    return max(1, int(jobs))


def _seeds(request: Request, kinds: Sequence[CellForecast], repeats: int) -> SeedsForecast | None:
    comparison = request.configs[0].comparison
    keys = comparison.by or sorted(request.varied - {"seed"})
    recipes = len({tuple(repr(value_at(config, key)) for key in keys) for config in request.configs})
    plans = [kind.assessment.plan for kind in kinds]
    return forecast_seeds(comparison, plans, request.varied, recipes=recipes, seeds=repeats)


def _spending(
    request: Request, cells: int
) -> tuple[tuple[tuple[str, int, Composed], ...], Composed | None, int | None]:
    """What the private cells spend together on each data set, and what publishing the best alone does.

    Last, of a sweep in rounds, the planned look up to which its budget reaches.
    """
    private = [config for config in request.configs if config.privacy.enabled]
    if not private:
        return (), None, None

    planned = planned_cells(private)
    if planned is None:
        raise RunError("a private cell cannot be planned, so what the sweep spends is not known")
    if request.cells is None:
        planned = {contents: runs * cells for contents, runs in planned.items()}
    else:
        refuse_over_budget(request, planned)
    # until it is decided, every private cell has a budget
    budget = min(one.privacy.sweep_epsilon or math.inf for one in private) if request.until_decided else None
    spent = []
    for runs in planned.values():
        composed = compose_grid(runs, budget)
        if composed is not None:
            spent.append((runs[0].data, len(runs), composed))
    best = _best(request, next(iter(planned.values())), count_of(request))
    return tuple(spent), best, None if budget is None else _room(request, planned.values(), budget)


def _room(request: Request, planned: Collection[list[PlannedRun]], budget: float) -> int:
    assert request.seeds is not None
    first = len(request.seeds)

    def fits(look: int) -> bool:
        for runs in planned:
            one_seed = runs[: len(runs) // first]
            composed = compose_grid(one_seed * look, budget)
            if composed is not None and composed.epsilon > budget:
                return False
        return True

    return max((look for look in plan_looks(request.configs[0].comparison.max_seeds) if fits(look)), default=0)


def _best(request: Request, runs: Sequence[PlannedRun], count: Any) -> Composed | None:
    if count is None:
        return None

    return best_of(runs[0], count)


def _sum(pluralize: Sequence[tuple[int, Interval]], at_a_time: int) -> Interval:
    # one that keeps another waiting for its cores is not known before; each is taken to run as alone
    def total(values: list[float]) -> float:
        return sum(values) / at_a_time

    return Interval(
        expected=total([count * range_.expected for count, range_ in pluralize]),
        low=total([count * range_.low for count, range_ in pluralize]),
        high=total([count * range_.high for count, range_ in pluralize]),
    )


def _price(kinds: Sequence[CellForecast]) -> Interval | None:
    prices = [(kind.count, price) for kind in kinds if (price := kind.assessment.forecast.price) is not None]
    return _sum(prices, 1) if prices else None
