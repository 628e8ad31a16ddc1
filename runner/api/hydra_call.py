"""Hydra called as if from a shell: it composes again, in its own order and with its own logging, and calls the job."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig

from runner.config import store
from runner.config.untrusted.trusted_packages import allow_working_folder
from runner.errors import ExitCode, RequestError, RunError


def call_hydra(
    argv: Sequence[str], task: Callable[[DictConfig], Any], key: str = "hydra.run.dir", folder: Path | None = None
) -> int:
    """Let Hydra act on ``argv``; returns its exit code, 0 when all jobs were called.

    Raises ``RequestError`` when it cannot write ``folder``, which ``key`` names, or a launcher refuses it, and
    ``RunError`` for any other failure of Hydra's own or of a plug-in; the jobs let none out.
    """
    conf = str(store.shipped("conf"))
    allow_working_folder()
    run = hydra.main(config_path=conf, config_name="config", execution_whitelist=store.whitelist())(task)
    try:
        with _command_line(argv):
            run()
    except SystemExit as end:
        if end.code is not None and not isinstance(end.code, int):
            raise RunError(str(end.code)) from end  # words instead of a number mean failure
        return end.code or ExitCode.DONE
    except (RequestError, RunError):
        raise
    except OSError as error:
        # of a disk that is full the system names no file
        got = error.filename or folder or str(error)
        raise RequestError(key, got, f"a folder that can be written ({error.strerror})") from error
    except Exception as error:
        raise RunError(f"{type(error).__name__}: {error}") from error
    return ExitCode.DONE


def no_job(composed: DictConfig) -> None:
    """For flags that print something and call no job."""


@contextlib.contextmanager
def _command_line(argv: Sequence[str]) -> Iterator[None]:
    """Make ``argv`` what Hydra reads, and its exceptions come out instead of ending the process with a traceback."""
    before, report, complain = sys.argv, os.environ.get("HYDRA_FULL_ERROR"), logging.raiseExceptions
    # A log that cannot be written, on a full disk, would print a traceback for each of its lines.
    logging.raiseExceptions = False
    sys.argv = [before[0], *argv]
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        sys.argv, logging.raiseExceptions = before, complain
        if report is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = report
