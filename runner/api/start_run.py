"""One run, in this process, with Hydra's own files, logging and callbacks around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig, OmegaConf

from runner.api.hydra_call import call_hydra
from runner.config.compose import Composer
from runner.config.load import load_config, typed_keys
from runner.config.request.request import Request
from runner.disk.rollback import FolderSnapshot
from runner.errors import ExitCode
from runner.execution.attempt import LOG_FILE, Attempt, attempt_run, record_failure


@dataclass(frozen=True, kw_only=True)
class RunEnd:
    """How a run ended that was started through Hydra."""

    exit_code: int
    """One of ``ExitCode``, unless a callback of the user's ended Hydra with another."""
    attempt: Attempt | None = None
    """None where Hydra ended before it called the run."""


def start_run(composer: Composer, request: Request, argv: Sequence[str], *, from_python: bool = False) -> RunEnd:
    """Run ``request``; ``argv`` are the flags and overrides that it was made of.

    ``from_python`` says whether a Python program has called it (``runner.execution.job``).

    Raises:
        RequestError: its folder cannot be written.
        RunError: a callback failed.
    """
    assert request.run_dir is not None
    before = FolderSnapshot(request.run_dir, own=(".hydra", LOG_FILE))
    ended: list[Attempt] = []

    def job(composed: DictConfig) -> None:
        whole: Any = HydraConfig.instance().cfg
        run_dir = Path(whole.hydra.runtime.output_dir)
        plain: Any = OmegaConf.to_container(composed, resolve=True)
        defaults = composer.option_defaults(whole)
        config = load_config(composed, defaults, typed_keys=typed_keys(whole.hydra))
        attempt = attempt_run(config, plain, run_dir, from_python=from_python)
        ended.append(attempt)
        if attempt.exit_code == ExitCode.WRONG_REQUEST:
            before.restore(run_dir)
        elif attempt.error is not None:
            record_failure(run_dir, attempt)

    # Hydra composes everything again, and by then it is another microsecond
    place = QuotedString(str(request.run_dir), Quote.double).with_quotes()
    code = call_hydra([*argv, f"hydra.run.dir={place}"], job, folder=request.run_dir)
    if code != ExitCode.DONE or not ended:
        return RunEnd(exit_code=code)
    return RunEnd(exit_code=ended[0].exit_code, attempt=ended[0])
