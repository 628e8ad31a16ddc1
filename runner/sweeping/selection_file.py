"""``selection.json``: what was drawn for a sweep with ``privacy.selection=random_stopping``, before its first trial.

It is what the processes of the sweep go by.  The ledger holds the same from the first trial on, and a study, too, where
several workers with a folder each share one: a file that is removed or edited is noticed, and nothing is drawn anew.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
import secrets
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from runner.config.rules.privacy_rules import may_change_mechanism
from runner.config.schema import PrivacyConfig
from runner.disk.json_files import read_json
from runner.errors import RequestError, RunError
from runner.privacy.accounting.random_stopping import TrialCount
from runner.privacy.accounting.stopping_draws import KEY, Draw, find_draw, refuse_drawn_before
from runner.privacy.ledger.chain import BrokenChain
from runner.privacy.ledger.ledger import find_ledgers, ledger_folder
from runner.records.json_values import write_json
from runner.records.run_file import RUN_FILE
from runner.records.sweep_cells import find_cells

SELECTION_FILE = "selection.json"

_NO_QUESTION = (
    *("tracker", "hardware", "comparison", "name", "seed", "seeds", "folds", "resume", "retry_failed", "deterministic"),
    *(
        "data.root",
        "data.cache_dir",
        "data.cache_shared",
        "data.eval_batch_size",
        "trainer.log_every",
        "trainer.save_every",
    ),
    *("privacy.ledger_dir", "privacy.sweep_epsilon", "privacy.grad_sample", "privacy.secure_noise"),
    *("privacy.selection", "privacy.selection_trials", "privacy.selection_shape"),
)
"""Keys that do not make another question of a sweep."""


def is_drawn(sweep_dir: Path) -> bool:
    """Whether the trials of the sweep in ``sweep_dir`` were drawn beforehand."""
    return (sweep_dir / SELECTION_FILE).exists()


def read_draw(sweep_dir: Path) -> Draw:
    """What was drawn for the sweep in ``sweep_dir``.

    Raises:
        RunError: nothing was, or the file that says so is damaged.
    """
    try:
        return Draw.from_plain(read_json(sweep_dir / SELECTION_FILE))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunError(f"{sweep_dir.name}/{SELECTION_FILE}: which trials were drawn is unknown ({error})") from error


def write_draw(sweep_dir: Path, draw: Draw) -> None:
    """Keep ``draw`` in ``sweep_dir``, which only its owner can enter where it is made here."""
    sweep_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_json(sweep_dir / SELECTION_FILE, draw.plain())
    # how many trials there are is not to be published
    (sweep_dir / SELECTION_FILE).chmod(0o600)


def question_hash(keys: Mapping[str, Any]) -> str:
    """Hash of what trials are drawn from, by the dotted ``keys`` of their runs and the values of each."""
    asked = {key: value for key, value in keys.items() if not _within(key, _NO_QUESTION)}
    return hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()


def draw_trials(privacy: PrivacyConfig, *, question: str, cells: int | None, expected: int) -> Draw:
    """Draw the trials of a new sweep, from the operating system.

    ``expected`` is their mean number where ``privacy.selection_trials`` says nothing.
    """
    mean = float(expected if privacy.selection_trials is None else privacy.selection_trials)
    source = random.SystemRandom()
    trials = TrialCount(mean=mean, shape=privacy.selection_shape).draw(source)
    return Draw(
        sweep=secrets.token_hex(16),
        question=question,
        ledger=str(ledger_folder(privacy.ledger_dir).absolute()),
        mean=mean,
        shape=float(privacy.selection_shape),
        cells=cells,
        trials=trials,
        picks=None if cells is None else tuple(source.randrange(cells) for _ in range(trials)),
    )


def refuse_varied(varied: Collection[str]) -> None:
    """Refuse to vary what may make the trials train on other examples, or spend otherwise.

    Raises:
        RequestError: names the first such key.
    """
    for key in sorted(varied):
        if may_change_mechanism(key):
            raise RequestError(
                key,
                f"several values with {KEY}=random_stopping",
                "one: each trial is the same mechanism on the same data",
            )


def refuse_drawn_elsewhere(draw: Draw, asked: Draw, sweep_dir: Path) -> None:
    """Refuse to start where the ledger shows that the question was drawn for another sweep, or has forgotten this one.

    ``asked`` is the same as a fresh request has it.

    Raises:
        RequestError: it does; or another ledger is asked for, or one cannot be read.
    """
    folder = Path(asked.ledger)
    draw.require_ledger(folder)
    try:
        all_lines = [ledger.lines() for ledger in find_ledgers(folder)]
    except (OSError, BrokenChain) as error:
        raise RequestError("privacy.ledger_dir", folder, f"ledgers that can be read ({error})") from error
    for lines in all_lines:
        refuse_drawn_before(lines, draw)
    begun = any(_has_trained(sweep_dir / name / RUN_FILE) for name in find_cells(sweep_dir).cells)
    if begun and not any(find_draw(lines, draw.sweep) for lines in all_lines):
        raise RequestError("privacy.ledger_dir", folder, f"the ledger that knows the trials of {sweep_dir}")


def adopt(draw: Draw, sweep: str) -> Draw:
    """``draw`` for a sweep that has an identity already."""
    return dataclasses.replace(draw, sweep=sweep)


def _has_trained(path: Path) -> bool:
    if not path.exists():
        return False
    try:
        return bool(read_json(path).get("plan"))
    except (ValueError, AttributeError):
        return True


def _within(key: str, names: Collection[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in names)
