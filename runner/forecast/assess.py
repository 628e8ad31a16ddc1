"""One configuration, assessed: its plan, what that will take, and what is likely to go wrong."""

from __future__ import annotations

import dataclasses
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.autotune.resolve import resolve_precision
from runner.config.schema import RunConfig
from runner.data.cache.folder_cache import scratch_folder
from runner.errors import RunError
from runner.forecast.analytic_costs import estimate_costs, estimate_costs_in_subprocess
from runner.forecast.bookkeeper import Call, call_here
from runner.forecast.forecast import Forecast, forecast
from runner.forecast.paired_timing import step_seconds_in
from runner.forecast.privacy_costs import time_privacy_costs
from runner.forecast.probed_costs import probe_costs
from runner.forecast.tracker_cost import USUAL, rehearse_tracker
from runner.forecast.warnings import SIXTEEN_BITS, ForecastWarning, find_warnings
from runner.planning.build import build_plan
from runner.planning.device import Device, available_cores, describe_absent_device
from runner.planning.privacy_plan import plan_privacy
from runner.privacy.accounting.accountants import load_libraries
from runner.training.distributed.launch import share_work
from runner.training.distributed.world import SingleProcess, torch_device
from runner.training.precision.precision import NonFiniteGradient
from runner.training.run_data import open_run_data

if TYPE_CHECKING:
    from runner.data.images import ImageData
    from runner.forecast.costs import Costs
    from runner.planning.plan import Plan, PrivacyPlan
    from runner.training.distributed.world import World


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """What ``python -m runner plan`` knows of one run."""

    plan: Plan
    device: Device
    cores: int
    costs: Costs
    forecast: Forecast
    warnings: tuple[ForecastWarning, ...]
    planning_seconds: float
    """What all this took, imports apart."""


def assess(config: RunConfig, *, probe: bool, keep_books: Call = call_here) -> Assessment:
    """Assess ``config``, with a ``probe`` of its first updates or without; runs nothing to its end and keeps nothing.

    What needs the accountant of private runs is called through ``keep_books``.

    Raises:
        RequestError: the request does not fit the data or the machine.
        RunError: there is no memory for one example, or the first updates would end the run.
    """
    started = time.perf_counter()
    device = describe_absent_device(config.hardware)
    data = open_run_data(config)
    processes = device.count if config.hardware.processes is None else config.hardware.processes

    def mechanism(*args: Any, **kwargs: Any) -> tuple[PrivacyPlan, int]:
        return keep_books(plan_privacy, *args, **kwargs)

    plan = build_plan(config, data, device, processes=processes, mechanism=mechanism)
    paired_seconds = None
    if not device.here:
        costs = estimate_costs_in_subprocess(plan, data, cache_dir=config.data.cache_dir)
    elif probe:
        plan = _resolved(config, plan, device, SingleProcess(torch_device(device.kind)))

        # first, because their libraries count in the memory of the process
        tracking = rehearse_tracker(config, neighbours=processes - 1 if device.kind == "cpu" else 0)
        if plan.semantic.privacy is not None:
            load_libraries(plan.semantic.privacy.accountant)
        costs = dataclasses.replace(_probe(config, plan, data, device, processes), tracking=tracking)
        if (dtype := plan.semantic.precision.dtype) in SIXTEEN_BITS:
            image_seconds = processes * statistics.fmean(costs.step_seconds) / plan.semantic.logical_batch
            paired_seconds = step_seconds_in(plan, ("float32", dtype), image_seconds=image_seconds)
    else:
        costs = estimate_costs(plan, data, cache_dir=config.data.cache_dir)
        costs = dataclasses.replace(costs, tracking=USUAL.get(str(config.tracker.target)))
    if plan.semantic.privacy is not None:
        folders = {"ledger_dir": config.privacy.ledger_dir, "cache_dir": config.data.cache_dir}
        accounts = keep_books(time_privacy_costs, plan, **folders)
        costs = dataclasses.replace(costs, accounts=accounts)
    # what an hour of that machine costs says nothing about seconds of this one
    price = config.hardware.price_per_hour if device.here else None
    found = forecast(plan, data, costs, price_per_hour=price)
    return Assessment(
        plan=plan,
        device=device,
        cores=available_cores(),
        costs=costs,
        forecast=found,
        warnings=tuple(find_warnings(plan, data, device, costs, found, paired_seconds=paired_seconds)),
        planning_seconds=time.perf_counter() - started,
    )


def _resolved(config: RunConfig, plan: Plan, device: Device, world: World) -> Plan:
    """``plan`` with the precision and the memory format that a run would find measured, or measure, and keep."""
    return resolve_precision(plan, config, device, world)


def _probe(config: RunConfig, plan: Plan, data: ImageData, device: Device, processes: int) -> Costs:
    with scratch_folder(config.data.cache_dir) as folder:
        if processes == 1:
            return _rehearse(plan, data, SingleProcess(torch_device(device.kind)), folder)

        costs: Costs = share_work(
            rehearse_rank,
            (config, folder),
            hardware=config.hardware,
            device=device,
            processes=processes,
            failures=folder / "failures.log",
        )
    return costs


def rehearse_rank(job: tuple[RunConfig, Path], world: World, device: Device) -> Costs:
    """This process's part of the probe of a run in several; it writes into a folder of its own in that of ``job``."""
    config, folder = job
    data = open_run_data(config)
    plan = _resolved(config, build_plan(config, data, device, processes=world.size), device, world)
    own = folder / f"process{world.rank}"
    own.mkdir()
    return _rehearse(plan, data, world, own)


def _rehearse(plan: Plan, data: ImageData, world: World, folder: Path) -> Costs:
    try:
        return probe_costs(plan, data, world, folder)
    except NonFiniteGradient as error:
        raise RunError(f"the run would end at once: {error}; a smaller optimizer.lr may help") from error
