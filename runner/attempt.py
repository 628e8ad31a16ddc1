"""One attempt at a run: it ends with an exit code, whatever happens, and leaves a ``run.json`` that says why."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.config.errors import ExitCode, RequestError, RunError
from runner.config.interruption import interrupted
from runner.config.schema import RunConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """How an attempt ended."""

    exit_code: ExitCode
    objective: float | None = None
    """Value of the monitored metric, for searches; None when there is none."""
    error: str | None = None
    """Why it failed or was refused, in one line."""
    key: str | None = None
    """Key at fault of a refused request."""
    cut_short: bool = False
    """Whether a signal ended it outside of its updates, where the run does not say so itself."""


def attempt_run(
    config: RunConfig | RequestError, composed: dict[str, Any], run_dir: Path, sweep_dir: Path | None
) -> Attempt:
    """Run ``config`` in ``run_dir``; a refusal in its place is what the attempt ends with.

    ``composed`` is the same as plain values, ``sweep_dir`` the folder of the sweep that the run belongs to.
    """
    try:
        if isinstance(config, RequestError):
            raise config
        from runner.job import run_job

        result = run_job(config, composed, run_dir, sweep_dir)
        return Attempt(exit_code=result.exit_code, objective=result.objective)
    except KeyboardInterrupt:
        return Attempt(exit_code=ExitCode.INTERRUPTED, cut_short=True)
    except RequestError as wrong:
        return Attempt(exit_code=ExitCode.WRONG_REQUEST, error=str(wrong), key=wrong.key)
    except Exception as failure:
        if interrupted():  # a library took the Ctrl-C for a failure of its own
            return Attempt(exit_code=ExitCode.INTERRUPTED, cut_short=True)
        log.exception("the run failed")
        kind = "" if isinstance(failure, RunError) else f"{type(failure).__name__}: "
        return Attempt(exit_code=ExitCode.FAILED, error=" ".join(f"{kind}{failure}".split()))


def record_failure(run_dir: Path, attempt: Attempt) -> None:
    """Leave a ``run.json`` that says why ``attempt`` ended, where the run could not say so itself.

    What a finished run left stays, and so does what another process may be working on when this one was refused.
    """
    from runner.records.run_file import RUN_FILE, RunRecord, read_run, write_run

    record = RunRecord(name=run_dir.name, status="running")
    with contextlib.suppress(RunError):  # a full disk, or a file that was damaged before
        if (run_dir / RUN_FILE).exists():
            record = read_run(run_dir)
            own = ("failed", "running") if attempt.exit_code == ExitCode.FAILED else ("failed",)
            if record.status not in own or record.error == attempt.error:
                return
        write_run(run_dir, record.end("failed", error=attempt.error))
