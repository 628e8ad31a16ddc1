"""The request of an audit: canaries, a configuration, or the configuration of an earlier run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runner.config.compose import Composer
from runner.config.request.search_path import searched, with_last_search_path
from runner.config.rules import rules
from runner.config.schema import RunConfig
from runner.config.words.expand_user import expand_user, expand_user_in_lines
from runner.config.words.override_lines import key_of
from runner.errors import RequestError
from runner.training.trainers import DPTrainer

CANARIES = "runner.audit.canaries.make_canaries"
"""The source of the data of an audit by canaries."""
_CHOOSES = ("experiment", "data", "trainer")
"""Groups of which a line that names one asks for a recipe; others change the one with canaries."""


@dataclass(frozen=True, kw_only=True)
class AuditRequest:
    """What to audit, and where to leave the record."""

    config: RunConfig
    """Checked."""
    folder: Path
    run: Path | None
    """The folder of the run whose recipe it is."""
    identity: str | None = None
    """Of that run's plan, as the version that made it computed it."""

    @property
    def canaries(self) -> bool:
        """Whether the data are canaries."""
        return self.config.data.target == CANARIES


def read_request(lines: Sequence[str]) -> AuditRequest:
    """The request of ``lines``, as typed.

    Raises:
        RequestError: for whatever cannot be audited.
    """
    lines = with_last_search_path(expand_user_in_lines(list(lines)))
    runs = [line for line in lines if key_of(line) == "run"]
    if runs:
        return _of_run(runs[-1], [line for line in lines if line not in runs])
    for line in lines:
        if key_of(line) == "sweep":
            raise RequestError("sweep", line.partition("=")[2], "one recipe: an audit is of a single run")
    chosen = {key_of(line) for line in lines}
    recipe = [] if chosen & {"experiment", "trainer"} else ["trainer=dp"]
    base = recipe if chosen & set(_CHOOSES) else ["experiment=audit"]
    composer = Composer(caller=Path.cwd(), search=searched(lines))
    composed = composer.compose([*base, *lines])
    config = composer.load(composed)
    _check(config)
    for note in composer.notes:
        print(f"note: {note}", file=sys.stderr)
    return AuditRequest(config=config, folder=Path(composed.hydra.runtime.output_dir), run=None)


def _of_run(line: str, others: Sequence[str]) -> AuditRequest:
    from runner.inference.finished_run import read_config, read_record

    folder = Path(expand_user(line.partition("=")[2].strip("'\"")))
    others = [line for line in others if key_of(line) != "hydra.run.dir"]
    for other in others:
        if not key_of(other).startswith("hardware."):
            expected = f"nothing besides run={folder}, whose own recipe is audited, and keys such as hardware.threads=1"
            raise RequestError(key_of(other), other, expected)
    plan, record = read_record(folder)
    config = read_config(folder)
    if others:
        composer = Composer(caller=Path.cwd())
        typed = composer.load(composer.compose(others)).hardware
        for name in (key_of(line).partition(".")[2] for line in others):
            setattr(config.hardware, name, getattr(typed, name))
    if plan.semantic.privacy is None:
        raise RequestError("run", f"{folder} (trainer={plan.trainer})", "a private run, of trainer=dp")
    _check(config)
    return AuditRequest(config=config, folder=folder, run=folder, identity=record.plan["identity"])


def _check(config: RunConfig) -> None:
    rules.check(config)
    if config.trainer.name == "dp":
        DPTrainer.check(config)
