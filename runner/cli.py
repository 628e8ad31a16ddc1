"""The command line: ``python -m runner``, ``ml-train`` and ``recipe-runner``.

A request is composed and checked here, the whole grid of a sweep included, before Hydra makes a folder and before torch
is imported.  Hydra then composes it again, in its own order and with its own logging, and calls the job.  What is
wrong with a request ends as one line on standard error and exit code 2; what fails on the way as one line, exit
code 1 and a traceback in the run's ``run.log``.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import logging
import math
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from runner.config import rules, store
from runner.config.compose import Composer
from runner.config.errors import ExitCode, RequestError, RunError, nearest
from runner.config.load import load_config
from runner.config.request import Request, read_request
from runner.config.resume_request import expand_resume
from runner.config.schema import RunConfig

log = logging.getLogger(__name__)

LOG_FILE = "run.log"
"""Where ``conf/hydra/job_logging`` writes, in the run's folder."""

_HYDRA_TARGETS = ("hydra", "hydra_plugins", "logging")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (null: that of the process) and return the exit code.

    0 done, 1 a run failed, 2 the request was wrong, 75 interrupted but resumable.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and os.environ.get("RANK", "0") != "0":
        from runner.training.launch import follow

        return follow()
    try:
        return _main(list(sys.argv[1:] if argv is None else argv))
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        return ExitCode.WRONG_REQUEST
    except RunError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return ExitCode.FAILED
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    finally:
        # Only a request that was right has started the group, and imported torch with it.
        if launch := sys.modules.get("runner.training.launch"):
            launch.release_followers()


def _main(argv: list[str]) -> int:
    if "--version" in argv:
        print(", ".join(f"{name} {_version(name)}" for name in ("recipe-runner", "hydra-core", "torch")))
        return ExitCode.DONE
    args = _parse_flags(argv)
    flags = [argument for argument in argv if argument not in args.overrides]
    lines = expand_resume(args.overrides, multirun=args.multirun)
    if args.shell_completion:
        try:
            return _call_hydra(argv, _no_job)
        except RunError as error:
            raise RequestError("--shell-completion", " ".join(args.overrides), f"install=bash ({error})") from error
    if args.hydra_help:
        return _call_hydra(["--hydra-help"], _no_job)
    extra = None if args.config_dir is None else Path(args.config_dir).absolute()
    if extra is not None and not extra.is_dir():
        raise RequestError("--config-dir", extra, "a folder that exists")
    composer = Composer(caller=Path.cwd(), extra=extra, root=args.config_name or "config")
    if args.help or args.cfg or args.info:
        composer.compose(lines)
        return _call_hydra([*flags, *lines], _no_job)
    request = read_request(composer, lines, multirun=args.multirun, check=_check)
    jobs = _Jobs(composer=composer, request=request, earlier=_hydra_files(request.run_dir))
    # Hydra looks for `hydra.mode` in the root and on the command line only; a sweep's file may set it too.
    flags += ["--multirun"] if request.multirun and not args.multirun else []
    folder = "hydra.sweep.dir" if request.multirun else "hydra.run.dir"
    return jobs.report(_call_hydra([*flags, *lines], jobs.task(), folder))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"


def _parse_flags(argv: Sequence[str]) -> argparse.Namespace:
    """Read the flags with Hydra's own parser; raises ``RequestError`` where it, or Hydra later, would refuse."""
    parser = get_args_parser()
    flags = [name for action in parser._actions for name in action.option_strings]

    def refuse(message: str) -> None:
        raise _flag_error(message, flags)

    # argparse would print its usage, several lines long, and leave the process.
    parser.error = refuse  # type: ignore[method-assign, assignment]
    args = parser.parse_intermixed_args(argv)
    if args.experimental_rerun is not None:
        raise RequestError(
            "--experimental-rerun",
            args.experimental_rerun,
            f"the overrides in {args.experimental_rerun}/.hydra/overrides.yaml with hydra.run.dir=FOLDER",
        )
    if args.config_path is not None:
        raise RequestError("--config-path", args.config_path, "--config-dir, which adds a folder to the shipped one")
    chosen = [
        f"--{name.replace('_', '-')}"
        for name in ("help", "hydra_help", "run", "multirun", "cfg", "info", "shell_completion")
        if getattr(args, name)
    ]
    if len(chosen) > 1:
        raise RequestError(chosen[-1], " with ".join(chosen), "one of them at a time")
    if args.resolve and not (args.cfg or args.help):
        raise RequestError("--resolve", "no --cfg", "--cfg job --resolve")
    return args


def _flag_error(message: str, flags: list[str]) -> RequestError:
    unknown = re.match(r"unrecognized arguments: (\S+)", message)
    if unknown:
        name, equals, _ = unknown[1].partition("=")
        if equals:
            return RequestError(name, "dashes before a key", f"{unknown[1].lstrip('-')}")
        return RequestError(name, "an unknown flag", "a flag that --hydra-help lists", nearest=nearest(name, flags))
    invalid = re.match(r"argument ([^:/]+)[^:]*: invalid choice: '(.*?)' \(choose from (.*)\)", message)
    if invalid:
        names = invalid[3].replace("'", "").split(", ")
        return RequestError(invalid[1], invalid[2], f"one of {', '.join(names)}", nearest=nearest(invalid[2], names))
    other = re.match(r"argument ([^:/]+)[^:]*: (.*)", message)
    return RequestError(other[1], other[2], "a valid flag") if other else RequestError("command line", message, "flags")


def _check(config: RunConfig) -> None:
    """The rules of the configuration, then those of its trainer."""
    rules.check(config)
    module, _, name = config.trainer.target.rpartition(".")
    try:
        trainer = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise RequestError("trainer._target_", config.trainer.target, "an importable trainer class") from error
    trainer.check(config)


@dataclass
class _Jobs:
    """The jobs of one request, in the order in which Hydra calls them, and how each ended."""

    composer: Composer
    request: Request
    earlier: dict[Path, bytes]
    """Hydra's files of the run that the folder holds already."""
    sweep_dir: Path | None = None
    ended: list[tuple[str, int, str | None]] = field(default_factory=list)
    """Overrides, exit code and error of each."""
    ledgers: set[Path] = field(default_factory=set)
    """Folders of ledgers in which private cells are recorded."""
    ordinary: int = 0
    """Cells without privacy."""
    over_budget: int = 0
    """Cells that ``privacy.sweep_epsilon`` refused."""
    spent: str = ""
    """What the private cells spent, for people."""

    def task(self) -> Callable[[DictConfig], float | None]:
        """What Hydra calls with each composed configuration; it lets no ``Exception`` out."""

        def job(composed: DictConfig) -> float | None:
            whole: Any = HydraConfig.instance().cfg
            own = whole.hydra
            name = " ".join(OmegaConf.to_container(own.overrides.task, resolve=False))  # type: ignore[arg-type]
            if self.request.multirun:
                self.sweep_dir = Path(own.sweep.dir).absolute()
                total = "" if self.request.cells is None else f"/{self.request.cells}"
                print(f"[{own.job.num + 1}{total}] {name}", flush=True)
            code, objective, error = self._run(composed, whole)
            self.ended.append((name, code, error))
            if self.sweep_dir is None:
                return objective
            from runner.records.sweep_table import write_table

            write_table(self.sweep_dir)
            if self.ledgers:
                self._write_spending(self.sweep_dir)
            if code == ExitCode.INTERRUPTED:
                # An exception that is none passes Hydra's launcher, which would go on with the next cell.
                raise SystemExit(ExitCode.INTERRUPTED)
            # A search has to see that a cell gave no value; a grid ignores what it returns.
            return math.nan if objective is None else objective

        return job

    def report(self, code: int) -> int:
        """Say at the end what the user needs, and return the exit code; ``code`` is Hydra's own."""
        if self.sweep_dir is None:
            if code == ExitCode.DONE and self.ended:
                _, code, error = self.ended[0]
                if error is not None:
                    print(f"error: {error}", file=sys.stderr)
            return code
        from runner.records.sweep_table import TABLE_FILE, read_cells, render_table

        print(render_table(read_cells(self.sweep_dir), width=shutil.get_terminal_size((120, 24)).columns), end="")
        print(f"table: {self.sweep_dir / TABLE_FILE}")
        print(self.spent, end="")
        _write_report(self.sweep_dir, check=code == ExitCode.DONE)
        failed = [
            (number, name, error)
            for number, (name, end, error) in enumerate(self.ended)
            if end in (ExitCode.FAILED, ExitCode.WRONG_REQUEST)
        ]
        # Cells that were refused to keep a limit are not failures of anything that ran.
        refused = self.over_budget == len(failed)
        if failed:
            cells = "; ".join(f"cell {number} ({name}): {error}" for number, name, error in failed)
            how = "refused" if refused else "failed"
            print(f"error: {len(failed)} of {len(self.ended)} cells {how}: {cells}", file=sys.stderr)
        if code != ExitCode.DONE or not failed:
            return code
        return ExitCode.WRONG_REQUEST if refused else ExitCode.FAILED

    def _write_spending(self, sweep_dir: Path) -> None:
        """Renew what the sweep has spent, after every cell, so that a kill leaves the truth so far."""
        from runner.sweep_spending import render_spending, write_spending

        try:
            found = write_spending(sweep_dir, self.ledgers, ordinary=self.ordinary)
        except RunError as error:
            # The next private cell meets it too and is refused; cells without privacy may go on.
            self.spent = f"privacy of the sweep: unknown, because {error}\n"
        else:
            self.spent = render_spending(found, ordinary=self.ordinary)

    def _count(self, config: RunConfig) -> None:
        """Note whether a cell is private, and where that will be recorded."""
        if not config.privacy.enabled:
            self.ordinary += 1
            return
        from runner.privacy.ledger import ledger_folder

        self.ledgers.add(ledger_folder(config.privacy.ledger_dir))

    def _run(self, composed: DictConfig, whole: DictConfig) -> tuple[int, float | None, str | None]:
        """Exit code, objective and error of one run."""
        run_dir = Path(whole.hydra.runtime.output_dir)
        try:
            config = load_config(composed, self.composer.option_defaults(whole))
            _check(config)
            from runner.job import run_job

            self._count(config)
            plain: Any = OmegaConf.to_container(composed, resolve=True)
            result = run_job(config, plain, run_dir, self.sweep_dir)
            return result.exit_code, result.objective, None
        except KeyboardInterrupt:
            return ExitCode.INTERRUPTED, None, None
        except RequestError as wrong:
            code, error = ExitCode.WRONG_REQUEST, str(wrong)
            self.over_budget += wrong.key == "privacy.sweep_epsilon"
        except Exception as failure:
            log.exception("the run failed")
            kind = "" if isinstance(failure, RunError) else f"{type(failure).__name__}: "
            code, error = ExitCode.FAILED, " ".join(f"{kind}{failure}".split())
        if code == ExitCode.WRONG_REQUEST and self.sweep_dir is None:
            _forget(run_dir)
            for path, content in self.earlier.items():
                path.write_bytes(content)
        else:
            _record_failure(run_dir, error)
        return code, None, error


def _write_report(sweep_dir: Path, *, check: bool) -> None:
    """End a sweep with its verdict; a report that fails is told, and leaves what the sweep found as it is."""
    from runner.compare.finish import finish_sweep

    try:
        report = finish_sweep(sweep_dir, check=check)
    except Exception as error:
        log.exception("the report failed")
        print(f"error: no report: {' '.join(str(error).split()) or type(error).__name__}", file=sys.stderr)
    else:
        print(f"verdict: {report.verdict}")
        print(f"report: {report.path}")


def _hydra_files(run_dir: Path | None) -> dict[Path, bytes]:
    """What Hydra wrote for an earlier run in this folder; it writes over that before it calls the job."""
    return {} if run_dir is None else {path: path.read_bytes() for path in (run_dir / ".hydra").glob("*.yaml")}


def _forget(run_dir: Path) -> None:
    """Remove the folder of a run that never began, and its date's folder when that is empty."""
    if {path.name for path in run_dir.iterdir()} <= {".hydra", LOG_FILE}:
        shutil.rmtree(run_dir)
        with contextlib.suppress(OSError):
            run_dir.parent.rmdir()


def _record_failure(run_dir: Path, error: str) -> None:
    """Leave a ``run.json`` that says why, where the run failed before it wrote its own."""
    from runner.records.run_file import RUN_FILE, RunRecord, write_run

    if not (run_dir / RUN_FILE).exists():
        # a full disk stops this as well, and what made the run fail is told anyway
        with contextlib.suppress(RunError):
            write_run(run_dir, RunRecord(name=run_dir.name, status="running").end("failed", error=error))


def _call_hydra(argv: Sequence[str], task: Callable[[DictConfig], Any], folder: str = "hydra.run.dir") -> int:
    """Let Hydra act on ``argv``; returns its exit code, 0 when all jobs were called.

    Raises ``RequestError`` when it cannot write the folder that the key ``folder`` names, and ``RunError`` for any
    other failure of Hydra's own or of a plug-in; the jobs let none out.
    """
    whitelist = [pattern for name in (*rules.trusted(), *_HYDRA_TARGETS) for pattern in (name, f"{name}.*")]
    run = hydra.main(config_path=str(store.shipped("conf")), config_name="config", execution_whitelist=whitelist)(task)
    try:
        with _command_line(argv):
            run()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else ExitCode.DONE
    except OSError as error:
        got = error.filename or str(error)
        raise RequestError(folder, got, f"a folder that can be written ({error.strerror})") from error
    except Exception as error:
        raise RunError(f"{type(error).__name__}: {error}") from error
    return ExitCode.DONE


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


def _no_job(composed: DictConfig) -> None:
    """For flags that print something and call no job."""
