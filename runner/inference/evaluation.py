"""One evaluation or prediction, from the request to its folder, in one process or several."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from runner.config.schema import HardwareConfig
from runner.data.feed import Feed
from runner.errors import RequestError, RunError
from runner.inference.finished_run import FinishedRun, open_run
from runner.inference.image_sources import Subject, open_folder, open_split
from runner.inference.measure import ModelOutputs, ProgressLine, Speed, measure_speed, predict
from runner.inference.results import RESULTS_FILE, Results, write_results
from runner.inference.results_folder import results_folder
from runner.inference.scores import Scores, score
from runner.inference.strategies import PreparedModel, prepare
from runner.models.memory_format import format_for
from runner.planning.device import Device, available_cores, detect_device
from runner.privacy.ledger.ledger import Ledger, contents_of, ledger_folder
from runner.records.environment import describe_environment, peak_memory_bytes, reset_peak_memory
from runner.records.plugins_used import plugins_used
from runner.records.run_file import utc_now
from runner.training.distributed.agreement import main_process_first, on_main_process
from runner.training.distributed.launch import share_work
from runner.training.distributed.world import SingleProcess, World, torch_device
from runner.training.torch_settings import torch_settings

if TYPE_CHECKING:
    from runner.inference.request import InferenceRequest
    from runner.planning.plan import Plan


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What every process of an inference needs to know; can be pickled."""

    request: InferenceRequest
    files: Path
    """Existing folder in which the first process writes."""


def infer(request: InferenceRequest) -> Results:
    """Do what ``request`` asks and leave its folder, whole or not at all.

    Raises:
        RequestError: run, checkpoint, images, device or an extra is missing, there are results already, or
            another command makes them.
        RunError: it failed on the way.
    """
    with results_folder(request.folder, overwrite=request.overwrite) as files:
        return infer_into(files, request)


def infer_into(files: Path, request: InferenceRequest) -> Results:
    """Do what ``request`` asks and leave the results in the existing folder ``files``.

    Raises:
        RequestError, RunError: see ``infer``.
    """
    hardware = HardwareConfig(device=request.device)
    device = detect_device(hardware)
    job = _Job(request=request, files=files)
    if request.inference == "accelerate" and request.processes > (most := most_processes(device)):
        each = "core of the CPU" if device.kind == "cpu" else f"{device.kind} device"
        raise RequestError("processes", request.processes, f"at most {most}, one for each {each}")
    if request.inference != "accelerate" or request.processes == 1:
        return _work(job, SingleProcess(torch_device(device.kind)), device)

    failures = files / "failures.log"
    return share_work(_work, job, hardware=hardware, device=device, processes=request.processes, failures=failures)


def most_processes(device: Device) -> int:
    """How many processes may share an inference: one for each device or core, and on a CPU always two.

    More would wait for each other.  Two on a single core show at least that the answers are the same.
    """
    return max(2, available_cores()) if device.kind == "cpu" else device.count


def _work(job: _Job, world: World, device: Device) -> Results:
    """This process's part; the first one writes the results."""
    request = job.request
    started = utc_now()
    run = open_run(request.run, request.checkpoint).with_data_in(request.data_root)
    subject = main_process_first(
        world, lambda: open_split(run, request.split) if request.images is None else open_folder(run, request.images)
    )
    settings = _settings(run, request, world)
    with torch_settings(settings):
        prepared = prepare(run, request, device, world.device, job.files)
        _tell_ledger(run, request, world)
        answers, speed, peak = _measure(run, request, prepared, subject, world)
    if not np.isfinite(answers.confidence).all():
        count = int((~np.isfinite(answers.confidence)).sum())
        raise RunError(f"the model's outputs are not finite in {prepared.dtype} for {count} images")
    # what the run says of these weights and these images, and of no others
    own = request.images is None and request.split == "test" and request.checkpoint == run.plan.semantic.test_checkpoint
    recorded = run.test_accuracy if own else None
    scores = (
        score(subject.images.labels, answers.predicted, answers.confidence, classes=run.plan.classes)
        if subject.labelled
        else None
    )
    results = Results(
        run=run.folder.absolute().name,
        name=run.plan.name,
        identity=run.identity,
        step=run.step,
        inference=request.inference,
        dtype=prepared.dtype,
        processes=world.size,
        threads=settings.performance.threads,
        details=prepared.details,
        images=len(subject.images),
        images_from=subject.name,
        skipped=subject.skipped,
        loss=answers.loss if subject.labelled else None,
        scores=scores,
        run_test_accuracy=recorded,
        speed=speed,
        model_bytes=prepared.model_bytes,
        peak_bytes=peak,
        privacy=run.privacy,
        notes=(*_notes(run, request, subject, prepared), *_off(request, scores, recorded)),
        environment=describe_environment() | {"plugins": plugins_used(run.config)},
        started=started,
        finished=utc_now(),
    )
    if world.is_main:
        results = write_results(job.files, results, answers, subject)
    return results.without_details()


def _measure(
    run: FinishedRun, request: InferenceRequest, prepared: PreparedModel, subject: Subject, world: World
) -> tuple[ModelOutputs, Speed, int]:
    feed = Feed(
        subject.images,
        subject.data,
        device=world.device,
        dtype=prepared.precision.parameter_dtype,
        channels_last=format_for(prepared.model, channels_last=run.plan.performance.channels_last)
        == torch.channels_last,
        augment=None,
    )
    examples = len(subject.images)
    batch_size = request.batch_size or run.plan.performance.eval_batch_size
    precision = prepared.precision
    progress = ProgressLine(examples, silent=not world.is_main)
    reset_peak_memory(world.device)
    answers = predict(
        prepared.model, feed, examples, batch_size=batch_size, precision=precision, world=world, progress=progress
    )
    peak = max(world.gather(peak_memory_bytes(world.device)))
    speed = measure_speed(prepared.model, feed, examples, batch_size=batch_size, precision=precision, world=world)
    return answers, speed, peak


def _settings(run: FinishedRun, request: InferenceRequest, world: World) -> Plan:
    """The run's plan with the threads of this inference; its switches of torch hold here too."""
    performance = run.plan.performance
    threads = request.threads or max(1, min(performance.threads, available_cores()) // world.size)
    return run.plan.evolve({"performance.threads": threads})


def _tell_ledger(run: FinishedRun, request: InferenceRequest, world: World) -> None:
    """Record a use of private validation data, before its result is known to anybody."""
    privacy = run.plan.semantic.privacy
    if privacy is None or request.images is not None or request.split != "val" or privacy.validation != "private":
        return

    def tell() -> None:
        assert run.ledger_entry is not None
        folder = ledger_folder(request.ledger_dir or run.config.privacy.ledger_dir)
        ledger = Ledger(folder, contents_of(run.plan.semantic.data.ledger_name))
        try:
            ledger.evaluate_later(run.ledger_entry, step=run.step, by="runner.commands.infer")
        except RequestError as error:
            expected = "the folder of the ledger in which the run is recorded"
            raise RequestError("ledger_dir", error.got, expected) from error

    on_main_process(world, tell)


def _off(request: InferenceRequest, scores: Scores | None, recorded: float | None) -> tuple[str, ...]:
    """What to say where the run's own arithmetic gives another accuracy than the run itself had."""
    if request.inference != "standard" or scores is None or recorded is None or scores.accuracy == recorded:
        return ()
    return (f"the run itself had an accuracy of {recorded:.4%} here: another machine, or files that have been changed",)


def _notes(run: FinishedRun, request: InferenceRequest, subject: Subject, prepared: PreparedModel) -> tuple[str, ...]:
    notes = [*prepared.notes, *([] if run.unfinished is None else [run.unfinished]), *subject.notes]
    if subject.skipped:
        count = len(subject.skipped)
        were = "file was" if count == 1 else "files were"
        each = "" if count == 1 else f", each named in {RESULTS_FILE} under skipped; the first"
        notes.append(f"{count} unreadable {were} skipped{each}: {subject.skipped[0]}")
    if run.privacy is not None and run.privacy.void is not None:
        notes.append(f"privacy {run.privacy}")
    elif run.privacy is not None and subject.labelled:
        notes.append(
            "ε covers the weights and whatever they predict; it does not cover figures measured on private images"
        )
    return tuple(notes)
