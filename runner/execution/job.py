"""One run from its checked configuration to its files: the thin runner that everything else is called from."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.autotune.resolve import resolve_plan
from runner.config.identity import identity_fields
from runner.config.rules.privacy_rules import refuse_outside_sweep
from runner.config.schema import RunConfig
from runner.config.untrusted.targets import locate
from runner.disk import unsupported
from runner.environment.launchers import launched
from runner.error_texts import is_out_of_memory
from runner.errors import EpsilonVoid, ExitCode, RequestError, RunError
from runner.execution.final_record import final_record, write_end
from runner.execution.ledger_entry import open_entry
from runner.execution.sweep_context import SweepContext
from runner.planning.build import build_plan
from runner.planning.device import detect_device
from runner.processes.signals import StopRequest
from runner.records.console import make_console
from runner.records.environment import describe_environment
from runner.records.environment_changes import environments_before
from runner.records.forecast_file import find_forecast, with_forecast_error
from runner.records.non_private_figures import non_private_figures_of_run
from runner.records.own_code import own_code
from runner.records.plugins_used import plugins_used, targets_of
from runner.records.printable import printable
from runner.records.recorder import Recorder
from runner.records.resolved_config import save_resolved_config
from runner.records.run_file import FINISHED, RUN_FILE, RunRecord, read_run, write_run
from runner.records.run_lock import lock_run
from runner.records.sink import RunInfo, build_sink
from runner.training.checkpointing.extension import extension_notes, is_longer, refuse_inexact
from runner.training.checkpointing.kept import drop_unkept
from runner.training.checkpointing.resume import (
    find_checkpoint,
    forget_after,
    grad_sample_of,
    identity_mismatch,
    refuse_other_noise,
    seconds_before,
    secret_of,
)
from runner.training.distributed.agreement import decide_on_main, main_process_first, on_all_processes, on_main_process
from runner.training.distributed.launch import follow, lead_followers, start_processes
from runner.training.distributed.same_run import refuse_other_run
from runner.training.distributed.world import SingleProcess, torch_device
from runner.training.gradients.micro_batch_size import out_of_memory_message
from runner.training.parts import build_parts
from runner.training.preview import write_preview
from runner.training.run_data import open_run_data
from runner.training.torch_settings import torch_settings

if TYPE_CHECKING:
    from runner.planning.device import Device
    from runner.planning.plan import Plan
    from runner.records.console import Console
    from runner.records.run_file import FinalMetrics
    from runner.training.checkpointing.checkpoint import Checkpoint
    from runner.training.distributed.world import World
    from runner.training.state import FitResult
    from runner.training.trainers import StandardTrainer

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Job:
    """What every process of a run needs to know; can be pickled."""

    config: RunConfig
    """Checked by ``runner.config.rules.rules``."""
    composed: dict[str, Any]
    """The same as plain values, for the trackers."""
    run_dir: Path
    """Existing folder of this run."""
    sweep: SweepContext | None = None
    """The sweep that it is a cell of; None for a run of its own."""
    from_python: bool = False
    """Whether a Python program has called it, which goes on afterwards and gets the result as an object."""

    @property
    def sweep_dir(self) -> Path | None:
        """Folder of that sweep."""
        return None if self.sweep is None else self.sweep.folder


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """How a run ended."""

    exit_code: ExitCode
    """``DONE`` or ``INTERRUPTED``; a run that fails raises instead."""
    objective: float | None = None
    """Value of the monitored metric, for searches; None without a validation split."""


def run_job(
    config: RunConfig,
    composed: dict[str, Any],
    run_dir: Path,
    sweep: SweepContext | None = None,
    *,
    from_python: bool = False,
) -> JobResult:
    """Run one configuration in ``run_dir``, in this process or in several.

    ``composed`` is the same as plain values; ``sweep`` is None for a run of its own.  One that a Python program has
    called, ``from_python``, neither prints its result nor ends the process when somebody insists on its end.

    Raises:
        RequestError: the request does not fit the data or the machine.
        RunError: the run failed on the way.
    """
    if sweep is None:
        refuse_outside_sweep(config.privacy)
    job = Job(config=config, composed=composed, run_dir=run_dir, sweep=sweep, from_python=from_python)
    if launched():
        return lead_followers(job, run_rank)
    device = detect_device(config.hardware)
    if (processes := _processes(config, device)) > 1:
        with _interruption_recorded(run_dir):
            return start_processes(job, device, processes, run_rank)
    return run_rank(job, SingleProcess(torch_device(device.kind)), device)


def follow_runs() -> int:
    """As any but the first process of a launch: take part in each run that the first one hands out.

    Returns:
        The exit code: that of the last run.
    """
    return follow(run_rank)


def run_rank(job: Job, world: World, device: Device) -> JobResult:
    """This process's part of a run; only the first process writes files and speaks.

    Raises:
        RequestError: see ``run_job``, or another run works in the folder; nothing has been written by then.
        RunError: see ``run_job``; ``run.json`` says why.
    """
    alone = world.size == 1
    with (
        _alone_in(job.run_dir, world),
        StopRequest(alone=alone, ends_process=not (alone and job.from_python)) as stop,
        _interruption_recorded(job.run_dir) if world.is_main else contextlib.nullcontext(),
        contextlib.closing(make_console(world.is_main, prints_result=not job.from_python)) as console,
    ):
        return _run_in_process(job, world, device, stop, console)


def _run_in_process(job: Job, world: World, device: Device, stop: StopRequest, console: Console) -> JobResult:
    config = job.config
    console.wait("loading data")
    data = main_process_first(world, lambda: open_run_data(config))
    with _explain_out_of_memory():
        plan = on_all_processes(world, lambda: build_plan(config, data, device, processes=world.size))
        console.wait("measuring what suits this machine")
        plan = resolve_plan(plan, config, device, world, run_dir=job.run_dir, sweep_dir=job.sweep_dir)
    refuse_other_run(world, plan, config)
    console.wait("preparing the tracker")
    sink = on_main_process(world, lambda: build_sink(config.tracker, warn=console.note))
    trainer_class = locate("trainer", config.trainer.target)
    if (done := decide_on_main(world, lambda: find_finished(job.run_dir, plan, config.data.cache_dir))) is not None:
        _warn(console, world.is_main, "this run was finished before; its folder is left as it is")
        console.finish(done, job.run_dir)
        return JobResult(exit_code=ExitCode.DONE, objective=objective_of(plan, done.metrics))
    console.wait("building the model")
    with torch_settings(plan):
        warn = functools.partial(_warn, console, world.is_main)
        checkpoint = decide_on_main(
            world, lambda: find_checkpoint(job.run_dir, plan, warn=warn, cache_dir=config.data.cache_dir)
        )
        with _explain_out_of_memory():
            way = decide_on_main(world, lambda: grad_sample_of(job.run_dir, plan, checkpoint))
            parts = build_parts(plan, data, world, key=secret_of(checkpoint), grad_sample=way)
        on_all_processes(world, lambda: refuse_other_noise(job.run_dir, checkpoint, parts))
        plan = parts.plan
        session = open_entry(
            config.privacy,
            plan,
            world,
            run_dir=job.run_dir,
            sweep=job.sweep,
            checkpoint=checkpoint,
            contents=data.contents,
        )
        if config.data.preview:
            on_main_process(world, lambda: write_preview(parts.on_images(data), job.run_dir))
        if world.is_main:
            forget_after(job.run_dir, checkpoint)
        connect = job.sweep.pruning if job.sweep is not None and world.is_main else None
        pruning = None if connect is None else connect()
        recorder = Recorder(job.run_dir if world.is_main else None, [sink] if sink else [], console, session, pruning)
        trainer = trainer_class(parts, data, recorder, job.run_dir)
        if world.is_main:
            outcome = _fit_on_record(trainer, job, plan, recorder, checkpoint, stop)
        else:
            with _explain_out_of_memory():
                outcome = trainer.fit(checkpoint, stop)
    exit_code = ExitCode.INTERRUPTED if outcome.status == "interrupted" else ExitCode.DONE
    return JobResult(exit_code=exit_code, objective=objective_of(plan, outcome.metrics))


def objective_of(plan: Plan, metrics: FinalMetrics) -> float | None:
    """Value of the monitored metric, for searches; None without a validation split."""
    return metrics.val_loss if plan.semantic.monitor == "val_loss" else metrics.val_accuracy


def find_finished(run_dir: Path, plan: Plan, cache_dir: str | None = None) -> RunRecord | None:
    """The record of this very run when it was completed before; running it again would replace what it measured.

    None also where ``plan`` makes it longer.

    ``cache_dir`` is ``data.cache_dir``, which knows which files were there.

    Raises:
        RequestError: another recipe was completed there; names the first key that differs.
    """
    if not (run_dir / RUN_FILE).exists():
        return None
    record = read_run(run_dir)
    if record.status not in FINISHED:
        return None
    if record.plan.get("identity") != plan.identity:
        saved = identity_fields(record.plan["semantic"])
        if is_longer(saved, plan):  # what goes on is its last checkpoint, which says more
            refuse_inexact(run_dir, saved, plan)
            return None
        raise identity_mismatch(run_dir, saved, plan.identity_fields(), cache_dir=cache_dir)
    return record


def plan_run(config: RunConfig, run_dir: Path | None = None) -> Plan:
    """The plan that ``run_job`` would make of ``config``; starts no process and writes nothing but the data's cache.

    What is left to the machine stands as facts about the device have it, or as the run in ``run_dir`` was begun with.

    Raises:
        RequestError: the request does not fit the data or the machine.
    """
    device = detect_device(config.hardware)
    plan = build_plan(config, open_run_data(config), device, processes=_processes(config, device))
    if run_dir is None:
        return plan

    return resolve_plan(plan, config, device, SingleProcess(torch_device(device.kind)), run_dir=run_dir)


def _processes(config: RunConfig, device: Device) -> int:
    return device.count if config.hardware.processes is None else config.hardware.processes


@contextlib.contextmanager
def _alone_in(run_dir: Path, world: World) -> Iterator[None]:
    """Hold the lock of the folder in the first process; where it is refused, every process is."""
    with contextlib.ExitStack() as held:
        on_main_process(world, lambda: held.enter_context(lock_run(run_dir)))
        yield


@contextlib.contextmanager
def _interruption_recorded(run_dir: Path) -> Iterator[None]:
    """Leave a ``run.json`` of a run that was interrupted before it had one of its own."""
    try:
        yield
    except KeyboardInterrupt:
        if not (run_dir / RUN_FILE).exists():
            write_run(run_dir, RunRecord(name=run_dir.name, status="running").end("interrupted"))
        raise


@contextlib.contextmanager
def _explain_out_of_memory() -> Iterator[None]:
    """End a run for which there is no memory apart from its batches, which make themselves smaller, with one line.

    Raises:
        RunError: names the cures.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RunError) or not is_out_of_memory(error):
            raise
        raise RunError(out_of_memory_message(f"out of memory ({error})")) from error


def _fit_on_record(
    trainer: StandardTrainer,
    job: Job,
    plan: Plan,
    recorder: Recorder,
    checkpoint: Checkpoint | None,
    stop: StopRequest,
) -> FitResult:
    """Train, and keep ``run.json`` true from the first moment to the last, whatever happens in between."""
    begun = time.monotonic() - seconds_before(job.run_dir, checkpoint)
    privacy = plan.semantic.privacy
    environment = describe_environment() | {"plugins": plugins_used(job.config, job.run_dir)}
    if modules := own_code(targets_of(job.config)):
        environment["code"] = modules
    earlier, moved = environments_before(job.run_dir, environment) if checkpoint is not None else ((), ())
    record = RunRecord(
        name=plan.name,
        status="running",
        notes=(*plan.notes, *moved, *extension_notes(job.run_dir, checkpoint, plan)),
        plan=plan.as_dict(),
        environment=environment,
        earlier_environments=earlier,
        prediction=find_forecast(plan, cache_dir=job.config.data.cache_dir),
        not_covered_by_epsilon=() if privacy is None else non_private_figures_of_run(validation=privacy.validation),
    )
    info = RunInfo(
        run_dir=job.run_dir,
        name=plan.name,
        config=job.composed,
        group=job.config.tracker.group or (None if job.sweep_dir is None else job.sweep_dir.name),
        run_id=None if checkpoint is None else checkpoint.state["tracker_run_id"],
    )
    try:
        save_resolved_config(job.run_dir, job.composed)
        write_run(job.run_dir, record)
        recorder.start(info, title=plan.name, plan_lines=plan.describe())
        for note in record.notes:
            _warn(recorder.console, True, note)
        for lack in (known := unsupported.warned()):  # the log has it
            recorder.console.note(lack)
        with _explain_out_of_memory():
            outcome = trainer.fit(checkpoint, stop)
        for note in outcome.notes:
            _warn(recorder.console, True, note)
        for lack in unsupported.warned()[len(known) :]:
            recorder.console.note(lack)
    except BaseException as error:
        reason, code = " ".join(f"{error}".split()) or type(error).__name__, ExitCode.FAILED
        void = reason if isinstance(error, EpsilonVoid) else None
        if isinstance(error, KeyboardInterrupt):
            record, code = record.end("interrupted", begun=begun), ExitCode.INTERRUPTED
        else:
            record = record.fail(reason, error.key if isinstance(error, RequestError) else None, begun=begun, void=void)
        if recorder.session is not None:
            recorder.session.end(record.status, void=void)
        with contextlib.suppress(RunError):  # a full disk stops both, and the first reason is the one to tell
            write_end(job.run_dir, record, job.config.privacy, job.sweep_dir)
        recorder.close(record, code)
        raise
    # what is done is put down: a signal that comes now changes nothing, unless it insists
    with stop.polled():
        record = final_record(record, plan, outcome, begun)
        record = dataclasses.replace(record, notes=(*record.notes, *unsupported.warned()))
        if checkpoint is None:  # the time of a run that goes on is counted from there
            record = with_forecast_error(record)
        if recorder.session is not None:
            recorder.session.end(outcome.status, outcome.epsilon)
        exit_code = ExitCode.INTERRUPTED if record.status == "interrupted" else ExitCode.DONE
        try:
            write_end(job.run_dir, record, job.config.privacy, job.sweep_dir, outcome.predictions)
            if record.status in FINISHED:
                _drop_unkept(job, recorder.console)
        finally:
            recorder.close(record, exit_code)
    return outcome


def _drop_unkept(job: Job, console: Console) -> None:
    """Leave of the checkpoints what ``trainer.keep`` says; the run is on record as finished, whatever comes of it."""
    keep = job.config.trainer.keep
    try:
        drop_unkept(job.run_dir / "checkpoints", keep)
    except (OSError, RunError) as error:
        _warn(console, True, f"trainer.keep={keep}: checkpoints stay that could not be removed ({error})")


def _warn(console: Console, is_main: bool, note: str) -> None:
    """Tell the user, in the log and on the console, once for all processes."""
    if is_main:
        note = printable(note)  # names of files may hold line breaks, codes and lone surrogates
        log.warning(note)
        console.note(note)
