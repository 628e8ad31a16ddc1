"""One attempt at a run: it ends with an exit code, whatever happens, and leaves a ``run.json`` that says why."""

from __future__ import annotations

import contextlib
import logging
import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.config.schema import RunConfig
from runner.config.untrusted.user_code import location_in_user_code, with_place
from runner.errors import ExitCode, RequestError, RunError
from runner.processes.keyboard_interrupt import interrupted
from runner.records.run_file import RUN_FILE, RunRecord, read_run, write_run
from runner.records.screen import shown_on_terminal

if TYPE_CHECKING:
    from runner.execution.sweep_context import SweepContext

log = logging.getLogger(__name__)

LOG_FILE = "run.log"

_OF_LOSSES = ("tasks/losses.py", "tasks/classify.py", "nn/functional.py")
"""Where ``conf/hydra/job_logging`` writes, in the run's folder."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """How an attempt ended."""

    exit_code: ExitCode
    objective: float | None = None
    """Value of the monitored metric, for searches; None when there is none."""
    error: str | None = None
    """Why it failed or was refused, in one line."""
    refusal: RequestError | None = None
    """What was raised where the request was refused."""
    cut_short: bool = False
    """Whether a signal ended it outside of its updates, where the run does not say so itself."""

    @property
    def key(self) -> str | None:
        """Key at fault of a refused request."""
        return None if self.refusal is None else self.refusal.key


def attempt_run(
    config: RunConfig | RequestError,
    composed: dict[str, Any],
    run_dir: Path,
    find_sweep: Callable[[RunConfig], SweepContext] | None = None,
    *,
    from_python: bool = False,
) -> Attempt:
    """Run ``config`` in ``run_dir``; a refusal in its place is what the attempt ends with.

    ``composed`` is the same as plain values.  ``find_sweep`` says what the run has to know of the sweep that it is a
    cell of, and may refuse it; None for a run of its own.  ``from_python`` as for ``run_job``.
    """
    try:
        if isinstance(config, RequestError):
            raise config
        with shown_on_terminal("loading torch"):
            from runner.execution.job import run_job

        sweep = None if find_sweep is None else find_sweep(config)
        result = run_job(config, composed, run_dir, sweep, from_python=from_python)
        return Attempt(exit_code=result.exit_code, objective=result.objective)
    except KeyboardInterrupt:
        return Attempt(exit_code=ExitCode.INTERRUPTED, cut_short=True)
    except RequestError as wrong:
        return Attempt(exit_code=ExitCode.WRONG_REQUEST, error=str(wrong), refusal=wrong)
    except Exception as failure:
        if interrupted():  # a library took the Ctrl-C for a failure of its own
            return Attempt(exit_code=ExitCode.INTERRUPTED, cut_short=True)
        log.exception("the run failed")
        return Attempt(exit_code=ExitCode.FAILED, error=_failure_message(failure, run_dir))
    except SystemExit as end:
        if end.__cause__ is not None or location_in_user_code(end) is None:
            raise
        log.exception("the run failed")  # the user's own code ends the program: the run is not done
        return Attempt(exit_code=ExitCode.FAILED, error=_failure_message(end, run_dir))


def _failure_message(failure: BaseException, run_dir: Path) -> str:
    """``failure`` in one line; of the user's own code with the place, and where the whole traceback is."""
    kind = "" if isinstance(failure, RunError) else f"{type(failure).__name__}: "
    line = " ".join(f"{kind}{failure}".split()) or type(failure).__name__
    if (beyond := beyond_outputs(failure)) is not None:
        line = f"{beyond} ({line})"
    message = with_place(line, failure)
    return message if message == line else f"{message}; the traceback is in {run_dir / LOG_FILE}"


def beyond_outputs(failure: BaseException) -> str | None:
    """What is to be said of a label beyond the outputs of a model, of which each device speaks in words of its own."""
    text = f"{failure}"
    label = re.search(r"(?:Target|index) (-?\d+) is out of bounds", text)
    frames = traceback.walk_tb(failure.__traceback__)
    in_loss = any(frame.f_code.co_filename.endswith(_OF_LOSSES) for frame, _ in frames)
    if label is not None and in_loss:
        return f"the label {label[1]} is beyond the model's outputs: a model has one for each class"
    if "device-side assert" in text or "CUDA_KERNEL_ASSERT" in text:
        return (
            "an index beyond a table on the GPU, most often a label beyond the model's outputs: hardware=cpu says which"
        )
    return None


def record_failure(run_dir: Path, attempt: Attempt) -> None:
    """Leave a ``run.json`` that says why ``attempt`` ended, where the run could not say so itself.

    What a finished run left stays, and so does what another process may be working on when this one was refused.
    """
    record = RunRecord(name=run_dir.name, status="running")
    with contextlib.suppress(RunError):  # a full disk, or a file that was damaged before
        if (run_dir / RUN_FILE).exists():
            record = read_run(run_dir)
            own = ("failed", "running") if attempt.exit_code == ExitCode.FAILED else ("failed",)
            if record.status not in own or record.error == attempt.error:
                return
        write_run(run_dir, record.fail(attempt.error or "", attempt.key))
