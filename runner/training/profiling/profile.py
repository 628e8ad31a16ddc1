"""``profile=true``: what some steps after the warm-up did, by phase, by operator and as a Chrome trace."""

from __future__ import annotations

import contextlib
import gzip
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.autograd import DeviceType  # type: ignore[attr-defined]  # public, and not in __all__
from torch.profiler import ProfilerActivity, profile

from runner.disk.files import write_bytes, write_text
from runner.errors import RunError
from runner.records.json_values import encode_pretty, plain
from runner.records.step_time import PHASES, StepTime
from runner.training.profiling.phase_timer import SPAN

if TYPE_CHECKING:
    from runner.training.parts import Parts

log = logging.getLogger(__name__)

PROFILE_FILE = "profile.json"
MARKDOWN_FILE = "profile.md"
TRACE_FILE = "trace.json.gz"

WARM_UP = 10
"""Steps before the window, in a run that is long enough."""

STEPS = 10
"""Steps in the window."""

_ROWS = 30
"""Operators in the page; ``profile.json`` has them all."""


@dataclass(frozen=True, kw_only=True)
class Operator:
    """One operator in the steps of the window, without the operators that it calls."""

    name: str
    calls: float
    """A step."""
    cpu_ms: float
    """A step, on the host."""
    gpu_ms: float
    """A step, of its kernels; 0 without a GPU."""
    allocated_mb: float
    """A step, 10**6 bytes on the device: asked of the allocator less given back."""
    share: float
    """Of the time of all operators, on the GPU where there is one; in [0, 1]."""


class Profile:
    """Watches a window of steps of one process through torch's profiler."""

    def __init__(self, parts: Parts, run_dir: Path, *, first: int) -> None:
        """``first`` is the step with which this session of the run begins."""
        self._clock = parts.clock
        self._device = parts.world.device
        self._run_dir = run_dir
        left = parts.plan.semantic.steps - first
        # A short run is profiled as well: a third of it is its warm-up.
        self._start = first + min(WARM_UP, left // 3)
        self._stop = self._start + STEPS
        self._seen = 0
        self._profiler: Any = None

    def before(self, step: int) -> None:
        """Start to watch where ``step`` is the first of the window."""
        if step == self._start:
            gpu = [ProfilerActivity.CUDA] if self._device.type == "cuda" else []
            # Shapes are left out: under DP the size of a batch is a secret.
            self._profiler = profile(activities=[ProfilerActivity.CPU, *gpu], profile_memory=True, acc_events=True)
            with _silent_tracer():
                self._profiler.start()
            self._clock.naming = True

    def after(self, step: int) -> bool:
        """Write what was seen where ``step`` was the last of the window; whether it was within the window.

        Raises:
            RunError: the files cannot be written.
        """
        if self._profiler is None:
            return False
        self._seen = step + 1 - self._start
        if step + 1 == self._stop:
            self.close()
        return True

    def close(self) -> None:
        """Write what was seen, if the run ends within the window.

        Raises:
            RunError: see ``after``.
        """
        if self._profiler is None:
            return
        profiler, self._profiler = self._profiler, None
        self._clock.naming = False
        profiler.stop()
        found = operators(profiler, self._seen) if self._seen else []
        if not found:
            return
        about = {
            "first_step": self._start + 1,
            "steps": self._seen,
            "step_time": self._clock.read(),
            "operators": found,
        }
        try:
            write_text(self._run_dir / PROFILE_FILE, encode_pretty(about))
            write_text(self._run_dir / MARKDOWN_FILE, page(found, self._clock.read(), self._start + 1, self._seen))
            write_bytes(self._run_dir / TRACE_FILE, _trace(profiler))
        except OSError as error:
            raise RunError(f"{PROFILE_FILE}: cannot be written ({error.strerror or error})") from error
        log.info("profile of %d steps: %s, %s, %s", self._seen, PROFILE_FILE, MARKDOWN_FILE, TRACE_FILE)


def operators(profiler: Any, steps: int) -> list[Operator]:
    """What ``profiler`` saw, the dearest first; times and sizes are means over ``steps``."""
    events = [event for event in profiler.key_averages() if event.device_type == DeviceType.CPU]
    on_gpu = sum(event.self_device_time_total for event in events) > 0
    cost = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    memory = "self_device_memory_usage" if on_gpu else "self_cpu_memory_usage"
    whole = sum(getattr(event, cost) for event in events)
    found = [
        Operator(
            name=event.key.replace(SPAN, "outside operators, "),
            calls=event.count / steps,
            cpu_ms=event.self_cpu_time_total / steps / 1e3,
            gpu_ms=event.self_device_time_total / steps / 1e3,
            allocated_mb=getattr(event, memory) / steps / 1e6,
            share=getattr(event, cost) / whole,
        )
        for event in events
    ]
    return sorted(found, key=lambda operator: operator.share, reverse=True)


def page(found: Sequence[Operator], step_time: StepTime | None, first: int, steps: int) -> str:
    """The profile as Markdown."""
    lines = ["# Profile", ""]
    if step_time is not None:
        lines += [
            f"A step takes {1e3 * step_time.seconds:,.3f} ms, the mean of {step_time.steps} steps before the window.",
            "",
            "| phase | ms | % |",
            "|---|---:|---:|",
            *(
                f"| {phase.replace('_', ' ')} | {1e3 * step_time.seconds * step_time.shares[phase]:,.3f} |"
                f" {100 * step_time.shares[phase]:.1f} |"
                for phase in PHASES
            ),
            "",
        ]
    gpu = any(operator.gpu_ms for operator in found)
    head = ["operator", "calls", "CPU ms", *(["GPU ms"] if gpu else []), "MB", "%"]
    lines += [
        f"Operators in steps {first} to {first + steps - 1}, a step, each without those that it calls. The profiler's"
        " own cost is in these times and not in those above. Open the trace in https://ui.perfetto.dev or chrome://tracing.",
        "",
        f"| {' | '.join(head)} |",
        f"|---|{'---:|' * (len(head) - 1)}",
    ]
    for operator in found[:_ROWS]:
        times = [operator.cpu_ms, *([operator.gpu_ms] if gpu else [])]
        row = [f"`{operator.name}`", f"{operator.calls:,.1f}", *(f"{ms:,.3f}" for ms in times),
               f"{operator.allocated_mb:,.2f}", f"{100 * operator.share:.1f}"]  # fmt: skip
        lines.append(f"| {' | '.join(row)} |")
    if len(found) > _ROWS:
        rest = 100 * sum(operator.share for operator in found[_ROWS:])
        lines += ["", f"{len(found) - _ROWS} others take {rest:.1f} %; they stand in `{PROFILE_FILE}`."]
    return "\n".join(lines) + "\n"


def _trace(profiler: Any) -> bytes:
    """The Chrome trace, compressed, without the name of the host and of the file that it was exported to."""
    with tempfile.TemporaryDirectory(prefix="recipe-runner-") as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        trace = json.loads(path.read_bytes())
    for key in ("host_name", "traceName"):
        trace.pop(key, None)
    return gzip.compress(json.dumps(plain(trace)).encode(), compresslevel=6)


@contextlib.contextmanager
def _silent_tracer() -> Iterator[None]:
    """Keep the tracer from writing to standard error that it has begun and that there is no GPU."""
    name = "KINETO_LOG_LEVEL"  # read once, when the first profiler of the process starts
    if name in os.environ:
        yield
        return
    os.environ[name] = "99"
    try:
        yield
    finally:
        del os.environ[name]
