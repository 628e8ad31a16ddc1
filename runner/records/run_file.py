"""``run.json``: what a run was, how it ended and what it measured."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from runner.config.untrusted.typed_values import check_types
from runner.disk.json_files import read_json
from runner.errors import RunError
from runner.privacy.ledger.void_runs import void_reason
from runner.records.json_values import write_json
from runner.records.step_time import StepTime

RUN_FILE = "run.json"

RunStatus = Literal["running", "completed", "pruned", "failed", "interrupted", "budget_exhausted"]
"""``running`` stands in the file from the first moment: found after the process has gone, it means that it was killed.
``pruned`` is a trial that its search ended early, for others were better by then; by itself it can be gone on with.
``interrupted`` can be resumed; ``budget_exhausted`` was to train as long as its privacy budget lasts, and did: another
step would have passed it."""

ErrorKind = Literal["request", "run"]
"""``request`` for what was refused as it was typed (a ``RequestError``), ``run`` for what failed on its way."""

STATUSES: tuple[RunStatus, ...] = ("running", "completed", "pruned", "failed", "interrupted", "budget_exhausted")

STOPPED_EARLY = "stopped early"
"""How the note of a run begins that ended for want of improvement."""

FINISHED: tuple[RunStatus, ...] = ("completed", "budget_exhausted")
"""How a run ends that has done all that it was to do."""


@dataclass(frozen=True, kw_only=True)
class FinalMetrics:
    """Mean loss (nats per example) and accuracy (share in [0, 1]) of the splits; None where there was no such split."""

    train_loss: float | None = None
    val_loss: float | None = None
    val_accuracy: float | None = None
    test_loss: float | None = None
    test_accuracy: float | None = None
    test_majority: float | None = None
    """Share of the test images that are of the largest class: the accuracy of always answering with it."""
    test_most_predicted: float | None = None
    """Share of the answers that name the class named most; 1 where the model answers every image alike."""
    best_epoch: int | None = None
    """Epoch after which ``trainer.monitor`` was best, by which the weights were chosen; then ``val_loss`` and
    ``val_accuracy`` are those of this epoch, and optimistic: the best of several.  None where the last weights count.
    """


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """Training examples per second of training time, over all processes, evaluation and start-up left out."""

    samples_per_second: float | None = None
    compile_seconds: float | None = None
    """What ``hardware.compile`` took before the first step of this session, no part of the rate; None without it."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Largest memory in bytes that a process held: device memory on CUDA, resident memory on a CPU.

    Of a run that was taken up again it is the largest of all its sessions; what a killed one held after its last save
    nobody knows.
    """

    peak_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Energy:
    """What meters of the machine counted from the first update to the end, over all processes and sessions.

    Of the processors and GPUs as wholes, whatever else they did meanwhile; never estimated.
    """

    joules: float | None = None
    """None where a session had no meter."""
    meters: Mapping[str, float] = field(default_factory=dict)
    """Meter -> its part: ``GPU-`` and a UUID by NVML, host and ``package-0`` by RAPL."""

    @classmethod
    def of(cls, meters: Mapping[str, float] | None) -> Energy:
        """The sum of ``meters``."""
        return cls() if meters is None else cls(joules=sum(meters.values()), meters=meters)


@dataclass(frozen=True, kw_only=True)
class PrivacySpent:
    """The guarantee that the run gives, and everything that an auditor needs to compute it again."""

    epsilon: float | None
    """None or infinite: there is none, because ``privacy.unsafe_noise_seed`` lets anyone compute the noise, or because
    of ``void``."""
    delta: float
    noise_multiplier: float
    max_grad_norm: float
    sample_rate: float
    steps: int
    accountant: str
    adjacency: str
    sampling: str = "Poisson"


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """The contents of ``run.json``."""

    name: str
    status: RunStatus
    metrics: FinalMetrics = field(default_factory=FinalMetrics)
    throughput: Throughput = field(default_factory=Throughput)
    memory: Memory = field(default_factory=Memory)
    energy: Energy = field(default_factory=Energy)
    step_time: StepTime | None = None
    """Where the time of its steps went, in its last session where it was taken up again; None where none were timed."""
    privacy: PrivacySpent | None = None
    """None for a run without differential privacy."""
    void: str | None = None
    """Why the recorded epsilon does not hold: then ``privacy`` has none (``runner.privacy.ledger.void_runs``)."""
    not_covered_by_epsilon: tuple[str, ...] = ()
    """Of a private run: dotted names of the figures here that epsilon does not cover (``non_private_figures.py``)."""
    steps: int = 0
    """Updates made, skipped ones included."""
    epochs: float = 0.0
    """Passes over the training data made."""
    skipped_steps: int = 0
    """Updates that float16 skipped because the gradient overflowed."""
    zeroed_examples: int = 0
    """Times that DP left an example out because its gradient was not finite."""
    out_of_memory: tuple[Mapping[str, Any], ...] = ()
    """Times that memory ran out: ``step``, ``phase``, then ``batch_size`` and ``accumulation_steps`` from there on."""
    prediction: Mapping[str, Any] | None = None
    """What ``python -m runner plan`` foresaw for this very plan on this device (``seconds``, ``peak_bytes``;
    ``method``, and ``foreseen``: when), and once the run is finished how far off it was, as shares of what was measured
    (``seconds_error``, ``peak_bytes_error``; positive for too much).  None where nobody asked."""
    notes: tuple[str, ...] = ()
    """What the run did otherwise than asked, such as a fallback of the precision, and what slowed it down: the
    warnings that the user saw."""
    plan: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    earlier_environments: tuple[Mapping[str, Any], ...] = ()
    """Others, in order, in which the run went before it was taken up again."""
    error: str | None = None
    """Why the run failed, in one line; the traceback is in the run's log."""
    error_kind: ErrorKind | None = None
    """Of what kind ``error`` is; None without one, and in records of earlier versions."""
    error_key: str | None = None
    """Key at fault of a refused request."""
    started: str = field(default_factory=lambda: utc_now())
    """UTC, ISO 8601."""
    finished: str | None = None
    """UTC, ISO 8601; None while the run goes on."""
    seconds: float | None = None
    """Time from start to finish, by a clock that nobody sets: the sum over its sessions of a run that was taken up
    again, without the time between them and, of one that was killed, without what it did since its last save.  None
    where it was killed for good."""

    @property
    def refused(self) -> bool:
        """Whether the run was refused rather than failed, as for want of data or of privacy: it may be asked for again.

        A record of an earlier version does not say: there, what had not begun, and so has no plan, counts as refused.
        """
        if self.status != "failed":
            return False
        return self.error_kind == "request" or (self.error_kind is None and not self.plan)

    def end(self, status: RunStatus, *, begun: float | None = None, **changes: Any) -> RunRecord:
        """Return the same run, finished now with ``status``; ``changes`` are other fields that are known by now.

        ``begun`` is what ``time.monotonic`` said when it started; None where another process started it, whose time
        nobody has measured.
        """
        known = {"finished": utc_now(), "seconds": None if begun is None else time.monotonic() - begun, **changes}
        return dataclasses.replace(self, status=status, **known)

    def fail(self, error: str, key: str | None, **changes: Any) -> RunRecord:
        """Return the same run, finished now because of ``error``; ``key`` is the one at fault of a refused request."""
        kind: ErrorKind = "run" if key is None else "request"
        return self.end("failed", error=error, error_kind=kind, error_key=key, **changes)


def utc_now() -> str:
    """Return the time now, UTC, ISO 8601 to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def write_run(run_dir: Path, record: RunRecord) -> None:
    """Write ``record`` as ``run.json`` in ``run_dir``, atomically and durably.

    Raises:
        RunError: it cannot be written, because the disk is full, say; what stood there before is left.
    """
    try:
        write_json(run_dir / RUN_FILE, record)
    except OSError as error:
        raise RunError(f"{RUN_FILE}: cannot be written ({error.strerror or error})") from error


_CURE = "without that file, the command that made the run goes on from its last checkpoint"


def read_run(run_dir: Path) -> RunRecord:
    """Return the record in ``run_dir``; an epsilon that does not hold is left out of it, and the reason put in.

    Raises:
        FileNotFoundError: when the run was never started.
        RunError: when the file is not a record that this version understands.
    """
    try:
        found = read_json(run_dir / RUN_FILE)
        nested: dict[str, Any] = {
            "metrics": FinalMetrics(**found.pop("metrics")),
            "throughput": Throughput(**found.pop("throughput")),
            "memory": Memory(**found.pop("memory")),
            "energy": Energy(**found.pop("energy", {})),
            "privacy": PrivacySpent(**spent) if (spent := found.pop("privacy")) is not None else None,
            "step_time": StepTime(**timed) if (timed := found.pop("step_time", None)) is not None else None,
            "notes": tuple(found.pop("notes")),
            "not_covered_by_epsilon": tuple(found.pop("not_covered_by_epsilon", ())),
            "out_of_memory": tuple(found.pop("out_of_memory")),
            "earlier_environments": tuple(found.pop("earlier_environments", ())),
        }
        record = RunRecord(**nested, **found)
        if record.status in STATUSES:
            check_types(record)
        for moment in (record.started, record.finished):
            if moment is not None:
                datetime.fromisoformat(moment)
        record = _without_void(record)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise RunError(f"{run_dir.name}/{RUN_FILE}: not a record of a run: {error}; {_CURE}") from error
    if record.status not in STATUSES:
        raise RunError(f"{run_dir.name}/{RUN_FILE}: unknown status {record.status!r}; {_CURE}")
    return record


def _without_void(record: RunRecord) -> RunRecord:
    if (reason := record.void or void_reason(record.plan)) is None:
        return record
    spent = None if record.privacy is None else dataclasses.replace(record.privacy, epsilon=None)
    return dataclasses.replace(record, privacy=spent, void=reason)
