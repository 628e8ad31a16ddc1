"""The ledger: every private run on a data set, recorded before its first step, so that none is left out of the sum.

A folder holds one chained file (``chain.py``) for each data set, named by the hash of the data's contents, whatever
split, limit or image size a run makes of them.  Kinds of lines:

- ``start``: a run with its mechanism and the steps that it plans;
- ``resume``: the same run goes on from a checkpoint;
- ``evaluate``: its model was measured on private validation data, without noise, after ``step`` updates; with ``by``,
  it was measured once more after the run, which releases other figures;
- ``end``: it ended after ``steps`` updates;
- ``selection`` and ``filter``: what was fixed for a sweep before its first run (``stopping_draws.py``,
  ``renyi_filter.py``).

A run counts with the steps that it did.  One that was killed, in whichever of its sessions, counts with all the
steps that it planned: nobody knows how many it made.  So does one that a search has pruned: when to end it was chosen
by what it had released, and what such a choice gives away is bounded by the cost of the whole plan, not by that of the
steps made (Rogers et al. 2016, "Privacy odometers and filters").
"""

from __future__ import annotations

import functools
import hashlib
import math
import os
import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runner.config.words.expand_user import expand_user
from runner.environment.home import permanent_home
from runner.errors import RequestError, RunError
from runner.privacy.accounting import renyi_filter
from runner.privacy.accounting import stopping_draws as draws
from runner.privacy.accounting.accountants import epsilon as epsilon_of
from runner.privacy.accounting.composition import Composed, Spent, compose
from runner.privacy.ledger.anchor import Anchor, anchor_folder
from runner.privacy.ledger.chain import BrokenChain, Chain
from runner.privacy.ledger.void_runs import DRAWS, recorded_plan, void_reason

FORMATS = (1, 2)
"""Of start lines.  The first says nothing of how the run drew (``PlannedRun.draws``)."""
KEY = "privacy.ledger_dir"
_OF_SWEEPS = (draws.KIND, renyi_filter.KIND)


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """What is known of a private run before its first step."""

    data: str
    """Name of the data set."""
    examples: int
    """Training examples."""
    identity: str
    """Hash of what the run computes; runs of one recipe share it."""
    name: str
    folder: str
    """Where its files are: relative to the working folder, or the folder's name alone."""
    sweep: str | None
    """Identity of the sweep that it is a cell of."""
    private: bool
    """False with ``privacy.unsafe_noise_seed``: anyone can compute the noise."""
    sample_rate: float
    noise_multiplier: float
    steps: int
    """Updates planned."""
    delta: float
    epsilon: float
    """Of all the steps planned."""
    accountant: str
    adjacency: str
    sampling: str
    validation: str
    """``private`` or ``public``: whether evaluations on the validation split use private data; ``none`` without one."""
    draws: str | None = DRAWS
    """``PrivacyPlan.draws``; None in lines of the first format."""


@dataclass(kw_only=True)
class Entry:
    """A run as the ledger tells it."""

    id: str
    planned: PlannedRun
    started: str
    """UTC, ISO 8601."""
    status: str = "running"
    """How its last session ended.  ``running`` is also what a killed run leaves."""
    ended_at: int = 0
    """Largest number of updates after which a session ended."""
    ended_epsilon: float = 0.0
    """What they cost."""
    killed: bool = False
    """Whether a session before the last never ended."""
    evaluated: set[int] = field(default_factory=set)
    """Numbers of updates after which it was evaluated on private validation data."""
    evaluated_later: int = 0
    """Further evaluations on them after the run."""
    found_void: str | None = None  # what a session found that rules its epsilon out

    @functools.cached_property
    def void(self) -> str | None:
        """Why the epsilon of the run does not hold; None where it does, and of a run that is not private anyway.

        A line of the first format counts as void unless the record of that very run is where it was and shows that it
        had nothing to draw.
        """
        if self.found_void is not None or not self.planned.private or self.planned.draws is not None:
            return self.found_void
        plan = recorded_plan(Path(self.planned.folder), self.planned.identity)
        if plan is None:
            return f"recorded before ledgers said how a run drew, and its record is not in {self.planned.folder}"
        return void_reason(plan)

    @property
    def uses(self) -> int:
        """Uses of private validation data."""
        return len(self.evaluated) + self.evaluated_later

    @property
    def known(self) -> bool:
        """Whether each session ended, so that the number of updates is known."""
        return not self.killed and self.status != "running"

    @property
    def whole(self) -> bool:
        """Whether all the updates that were planned count."""
        return not self.known or self.status == "pruned"

    @property
    def steps(self) -> int:
        """The updates that count."""
        return self.planned.steps if self.whole else self.ended_at

    @property
    def epsilon(self) -> float:
        """What they cost, at the run's own delta."""
        return self.planned.epsilon if self.whole else self.ended_epsilon

    @property
    def spent(self) -> Spent:
        """The steps that count, for composition."""
        planned = self.planned
        return Spent(sample_rate=planned.sample_rate, noise_multiplier=planned.noise_multiplier, steps=self.steps)


Admit = Callable[[Sequence[Entry], Sequence[Mapping[str, Any]]], Mapping[str, Any] | None]
"""Raises when a run may not start beside these entries and lines; else gives the line that goes before its own."""


class Ledger:
    """The ledger of one data set."""

    def __init__(self, folder: Path, contents: str, *, anchored: bool = True) -> None:
        """``contents`` is the SHA-256 (hex) of the data's contents.

        ``anchored``: whether the user's own notes say how far it had come (``anchor.py``); not for one that is thrown
        away.
        """
        self.folder = folder
        self.contents = contents
        anchor = Anchor(anchor_folder(), contents) if anchored else None
        self._chain = Chain(folder / f"{contents}.jsonl", contents, anchor)

    def entries(self) -> list[Entry]:
        """Every run, in the order of their starts.

        Raises:
            BrokenChain: see ``Chain.read``.
            OSError: the file cannot be read.
        """
        return read_entries(self._chain.read()[0])

    def lines(self) -> list[dict[str, Any]]:
        """Every line, in order; raises as ``entries`` does."""
        return self._chain.read()[0]

    def verify(self) -> tuple[int, bool]:
        """Number of lines, all in order, and whether a torn one follows them.

        Raises:
            BrokenChain: see ``Chain.read``.
            OSError: the file cannot be read.
        """
        lines, torn = self._chain.read()
        read_entries(lines)
        return len(lines), torn

    def begin(
        self, run: PlannedRun, *, entry: str | None = None, step: int = 0, admit: Admit | None = None
    ) -> LedgerSession:
        """Record that ``run`` starts, or that the run ``entry`` goes on after ``step`` updates.

        ``admit`` sees all other entries, and all lines, while nobody else can add one.  A run that goes on was admitted
        before.  An ``entry`` that this ledger does not know (the run began elsewhere) is recorded as a new one.

        Raises:
            RequestError: the ledger cannot be written, is broken, or knows ``entry`` as a run of another recipe; or
                whatever ``admit`` raises.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._chain.appending() as file:
                known = read_entries(file.lines)
                if (before := next((one for one in known if one.id == entry), None)) is not None:
                    if before.planned.identity != run.identity:
                        raise _refusal(self._chain.path, f"{before.planned.name} is there under the entry of this run")
                    file.append({"kind": "resume", "entry": entry, "time": _now(), "step": step})
                else:
                    if admit is not None and (admission := admit(known, file.lines)) is not None:
                        file.append({**admission, "time": _now()})
                    entry = entry or secrets.token_hex(16)
                    file.append({"kind": "start", "entry": entry, "time": _now(), "format": FORMATS[-1], **asdict(run)})
        except OSError as error:
            raise _refusal(self.folder, error.strerror or str(error)) from error
        except BrokenChain as broken:
            raise _refusal(self._chain.path, str(broken)) from broken
        assert entry is not None
        return LedgerSession(self._chain, run, entry, step)

    def evaluate_later(self, entry: str, *, step: int, by: str) -> None:
        """Record that the model of the run ``entry`` is measured on private validation data by the program ``by``.

        Raises:
            RequestError: the ledger does not know the run, cannot be written or is broken.
        """
        if not self._chain.path.exists():
            raise _refusal(self.folder, f"it has no ledger of the data {self.contents[:16]}")
        try:
            with self._chain.appending() as file:
                if entry not in {one.id for one in read_entries(file.lines)}:
                    raise _refusal(self._chain.path, f"it does not know the run {entry[:16]}")
                line = {"kind": "evaluate", "entry": entry, "time": _now(), "step": step, "split": "val"}
                file.append({**line, "noise": None, "by": by})
        except OSError as error:
            raise _refusal(self.folder, error.strerror or str(error)) from error
        except BrokenChain as broken:
            raise _refusal(self._chain.path, str(broken)) from broken


class LedgerSession:
    """A run's line to the ledger while a process works on it."""

    def __init__(self, chain: Chain, run: PlannedRun, entry: str, step: int) -> None:
        self.chain = chain
        """The file that it is written to."""
        self.run = run
        self.entry = entry
        """Identity of the run in the ledger, for its checkpoints."""
        self.steps = step
        """Updates begun; whoever runs them counts here."""

    def evaluate(self) -> None:
        """Record a use of private validation data, before its result is known to anybody.

        Raises:
            RunError: the ledger cannot be written or is broken.
        """
        if self.run.validation == "private":
            self._append({"kind": "evaluate", "step": self.steps, "split": "val", "noise": None})

    def end(self, status: str, epsilon: float | None = None, *, void: str | None = None) -> None:
        """Record that the run ended as ``status`` after ``steps`` updates, which cost ``epsilon``.

        ``epsilon`` None is computed; of a run that is not private, as if its noise were secret.  ``void``: why not.

        Raises:
            RunError: the ledger cannot be written or is broken.
        """
        run = self.run
        if epsilon is None or not run.private:
            epsilon = epsilon_of(
                run.accountant,
                sample_rate=run.sample_rate,
                noise_multiplier=run.noise_multiplier,
                steps=self.steps,
                delta=run.delta,
            )
        line = {"kind": "end", "status": status, "steps": self.steps, "epsilon": epsilon}
        self._append(line if void is None else {**line, "void": void})

    def _append(self, content: dict[str, Any]) -> None:
        try:
            with self.chain.appending() as file:
                file.append({**content, "entry": self.entry, "time": _now()})
        except OSError as error:
            raise RunError(f"the privacy ledger cannot be written: {error.strerror or error}") from error
        except BrokenChain as broken:
            raise RunError(f"the privacy ledger {self.chain.path.name} is broken: {broken}") from broken


def read_entries(lines: Iterable[dict[str, Any]]) -> list[Entry]:
    """The runs that verified ``lines`` tell of.

    Raises:
        BrokenChain: a line that this version does not understand.
    """
    entries: dict[str, Entry] = {}
    for line in lines:
        try:
            _tell(entries, line)
        except (KeyError, TypeError) as error:
            raise BrokenChain(f"line {line['line']} is of a kind that this version does not know") from error
    return list(entries.values())


def _tell(entries: dict[str, Entry], line: dict[str, Any]) -> None:
    kind = line["kind"]
    if kind in _OF_SWEEPS:
        return
    if kind == "start":
        if line["format"] not in FORMATS:
            raise KeyError("format")
        missing = {"draws": None} if line["format"] == 1 else {}
        planned = PlannedRun(**{name: {**line, **missing}[name] for name in PlannedRun.__dataclass_fields__})
        entries[line["entry"]] = Entry(id=line["entry"], planned=planned, started=line["time"])
        return
    entry = entries[line["entry"]]
    if kind == "resume":
        entry.killed |= entry.status == "running"
        entry.status = "running"
    elif kind == "evaluate" and "by" in line:
        entry.evaluated_later += 1
    elif kind == "evaluate":
        # One that a resumed run repeats is the same release.
        entry.evaluated.add(line["step"])
    elif kind == "end":
        entry.status = line["status"]
        entry.ended_at = max(entry.ended_at, line["steps"])
        entry.ended_epsilon = max(entry.ended_epsilon, line["epsilon"])
        entry.found_void = entry.found_void or line.get("void")
    else:
        raise KeyError("kind")


def compose_entries(entries: Iterable[Entry]) -> Composed | None:
    """The bound for publishing all private ``entries``, at the smallest of their deltas; None when there is none.

    By loss distributions, unless every run accounts by Renyi divergences.  Infinite as soon as one of them is void.
    """
    private = [entry for entry in entries if entry.planned.private]
    if not private:
        return None
    delta = min(entry.planned.delta for entry in private)
    accountant = "rdp" if all(entry.planned.accountant == "rdp" for entry in private) else "pld"
    void = tuple(f"{entry.planned.name} ({entry.started[:16]}): {entry.void}" for entry in private if entry.void)
    if void:
        return Composed(epsilon=math.inf, delta=delta, accountant=accountant, void=void)
    return compose([entry.spent for entry in private], delta=delta, accountant=accountant)


def ledger_folder(configured: str | None) -> Path:
    """The folder of all ledgers: ``configured``, else ``recipe-runner/ledger`` in the user's folder for data.

    That folder is ``$XDG_DATA_HOME`` or ``~/.local/share`` (XDG Base Directory Specification).

    Raises:
        RequestError: the user has no home folder, and what was spent must not be forgotten.
    """
    if configured:
        return Path(expand_user(configured))
    if base := os.environ.get("XDG_DATA_HOME"):
        return Path(base) / "recipe-runner" / "ledger"
    if (home := permanent_home()) is None:
        raise RequestError(KEY, "null, for a user without a home folder", "a folder that lasts")
    return home / ".local" / "share" / "recipe-runner" / "ledger"


def find_ledgers(folder: Path) -> list[Ledger]:
    """Every ledger in ``folder``, also one of which only the head is left, or a note in the user's own folder.

    Raises:
        OSError: the folder cannot be read.
    """
    names = {path.stem for path in folder.iterdir() if path.suffix in (".jsonl", ".head")} if folder.exists() else set()
    gone = Anchor.places(anchor_folder()).items()
    names |= {name for place, name in gone if place.parent == folder.absolute() and not place.exists()}
    return [Ledger(folder, name) for name in sorted(names) if re.fullmatch(r"[0-9a-f]{64}", name)]


def contents_of(fingerprint: str) -> str:
    """The name of a data set's ledger: ``fingerprint`` itself where it is a SHA-256, else its hash."""
    plain = re.fullmatch(r"[0-9a-f]{64}", fingerprint)
    return fingerprint if plain else hashlib.sha256(fingerprint.encode()).hexdigest()


def _refusal(place: Path, reason: str) -> RequestError:
    return RequestError(KEY, f"{place} ({reason})", "a folder that can be written, with the ledger as it was written")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
