"""Weights & Biases: offline unless the user asks for online, silent, and checked against ``metrics.jsonl``."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from runner.config.schema import TrackerConfig
from runner.config.words.wandb_variables import is_honoured
from runner.internals.wandb_file import WandbRun, read_wandb_file
from runner.records.metrics import METRICS_FILE, Record
from runner.records.sink import Publication, RunInfo

_ANSWER_SECONDS = 10.0
"""How long W&B may wait for its server when a run starts."""
_UPLOAD_SECONDS = 60.0
"""How long W&B may upload when a run ends; what is left stays on disk, for ``wandb sync``."""
_SETTLE_SECONDS = 3.0
_PROJECT = "recipe-runner"
_REPORTING = "WANDB_ERROR_REPORTING"


def to_row(record: Record) -> dict[str, Any]:
    """Name a record's figures ``<kind>/<figure>``, as W&B's rows have them: each kind then has its own charts."""
    shared = {key: record[key] for key in ("step", "epoch", "kind")}
    return shared | {f"{record['kind']}/{key}": value for key, value in record.items() if key not in shared}


def from_row(row: Mapping[str, Any]) -> Record:
    """Return the record that ``to_row`` made ``row`` from; W&B's own keys, which start with ``_``, are left out."""
    prefix = f"{row['kind']}/"
    shared = {key: row[key] for key in ("step", "epoch", "kind")}
    return shared | {key.removeprefix(prefix): value for key, value in row.items() if key.startswith(prefix)}


class WandbSink:
    """Copies records to W&B.

    Every record becomes a row of its own: W&B merges what is logged under one of its steps, and there a validation
    record would replace equal names of the training record.  So W&B's step is the number of the line in
    ``metrics.jsonl``, and the charts are told to take the key ``step`` as their axis.  A resumed run goes on under the
    same identity; lines that the server already has are not sent twice, which loses nothing because a replayed step is
    the same to the bit.

    ``tracker.mode`` decides between offline and online, whatever ``WANDB_MODE`` says: a run must do the same on every
    machine, and a variable left in a profile must not start an upload.  Of its other variables those are honoured that
    name an account or a server, and those of labels that the configuration leaves open.  Online without a key or a
    server becomes offline, with a warning.
    """

    requires = "wandb"
    traceless = MappingProxyType({"mode": "offline"})

    def __init__(self, config: TrackerConfig, *, warn: Callable[[str], None]) -> None:
        """Choose the identity of a new run and do no more: wandb is imported by ``start``, on the guard's thread."""
        self.run_id = secrets.token_hex(8)
        self._config = config
        self._warn = warn

    def start(self, info: RunInfo) -> None:
        """Begin or continue a run whose files lie in ``info.run_dir / "wandb"``."""
        import wandb

        self._wandb = wandb
        # W&B leaves the address of its service in the environment.  Where the program around us uses W&B too, both
        # the service and the variable are its own and stay.
        self._own_service = "WANDB_SERVICE" not in os.environ
        try:
            if self._config.mode == "online":
                self._start_online(info)
            else:
                self._start("offline", info)
        except BaseException:
            self._release_service()
            raise
        self._line = info.records
        self._known = self._run.starting_step
        self._expected = 0
        self._file = Path(self._run.settings.sync_file)
        self._run.define_metric("*", step_metric="step")

    def log(self, record: Record) -> None:
        """Log one record under the number of its line."""
        if self._line >= self._known:
            self._run.log(to_row(record), step=self._line, commit=True)
            self._expected += 1
        self._line += 1

    def publish(self, publication: Publication) -> None:
        """Log the tables, pictures and page of a report, as one row, and its verdict in the summary."""
        row: dict[str, Any] = {
            f"report/{name}": self._wandb.Table(columns=list(head), data=[list(cells) for cells in rows])
            for name, (head, rows) in publication.tables.items()
        }
        row |= {f"report/{picture.stem}": self._wandb.Image(str(picture)) for picture in publication.pictures}
        row["report/page"] = self._wandb.Html(publication.page, inject=False)
        self._run.log(row)
        self._run.summary["verdict"] = publication.verdict
        self._expected += 1

    def finish(self, summary: Mapping[str, Any], exit_code: int) -> None:
        """Write the summary, end the run and check that W&B kept every record."""
        try:
            self._run.summary.update(dict(summary))
            self._run.finish(exit_code=exit_code)
        finally:
            self._release_service()
        # On a full disk W&B reports success and drops the rest, so its own word is not enough.
        kept = self._read_back()
        if len(kept.history) < self._expected or kept.exit_code is None:
            self._warn(
                f"W&B kept {len(kept.history)} of {self._expected} records (is the disk full?); "
                f"{METRICS_FILE} holds them all"
            )

    def _read_back(self) -> WandbRun:
        # A service that goes on puts the end of the file on the disk a moment after `finish` has returned.
        deadline = time.monotonic() + (0.0 if self._own_service else _SETTLE_SECONDS)
        while (kept := read_wandb_file(self._file)).exit_code is None and time.monotonic() < deadline:
            time.sleep(0.05)
        return kept

    def _start_online(self, info: RunInfo) -> None:
        try:
            self._start("online", info)
        except self._wandb.Error as error:
            reason = " ".join(str(error).split())
            self._warn(f"W&B could not start online ({reason}): recording offline; `wandb sync` uploads it later")
            self._release_service()
            self._start("offline", info)

    def _start(self, mode: Literal["offline", "online"], info: RunInfo) -> None:
        settings = self._wandb.Settings(
            mode=mode,
            silent=True,
            console="off",
            disable_git=True,
            disable_code=True,
            save_code=False,
            symlink=False,
            host="",
            x_disable_stats=True,
            x_disable_machine_info=True,
            x_disable_meta=True,
            x_save_requirements=False,
            init_timeout=_ANSWER_SECONDS,
            login_timeout=_ANSWER_SECONDS,
            finish_timeout=_UPLOAD_SECONDS,
        )
        config = self._config
        with _environment(mode, own=self._own_service):
            # Silent from here on: given to `init` alone, a missing key would still be asked for on a terminal.
            theirs = self._wandb.setup(settings if self._own_service else None).settings
            self._run = self._wandb.init(
                project=config.project or theirs.project or _PROJECT,
                entity=config.entity,
                group=config.group or theirs.run_group or info.group,
                name=info.name,
                job_type=info.job_type,
                tags=list(config.tags) or None,
                config=dict(info.config),
                dir=str(info.run_dir),
                id=info.run_id or self.run_id,
                resume="allow" if info.run_id else None,
                # The default hands out a run that the process already has, into which this one would then log; and
                # "finish_previous" would end a run of the program around us.
                reinit="create_new",
                settings=settings,
            )

    def _release_service(self) -> None:
        """End the service process that this sink started and take its address out of the environment."""
        if self._own_service:
            self._wandb.teardown()


@contextlib.contextmanager
def _environment(mode: str, *, own: bool) -> Iterator[None]:
    """Show W&B those of its variables that a run honours, and keep it from sending its errors home while offline.

    It looks at them while it starts; a service that is not our ``own`` has done so.
    """
    hidden = [name for name in os.environ if not is_honoured(name)] if own else []
    before = {name: os.environ.get(name) for name in (*hidden, _REPORTING)}
    for name in hidden:
        del os.environ[name]
    if mode == "offline":
        os.environ[_REPORTING] = "false"
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
