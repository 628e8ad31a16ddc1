"""The facts of a privacy statement: the run's record, its sweep's sum, the ledger of its data, an audit."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.config.words.pluralize import pluralize
from runner.disk.json_files import read_json
from runner.errors import RunError
from runner.privacy.accounting.stopping_draws import KIND as DRAWN
from runner.privacy.ledger.chain import BrokenChain
from runner.privacy.ledger.ledger import Ledger, compose_entries, contents_of, find_ledgers, ledger_folder
from runner.privacy.ledger.overlap import related
from runner.records.run_file import RUN_FILE, RunRecord

if TYPE_CHECKING:
    from runner.privacy.ledger.ledger import Entry

SPENDING_FILE = "privacy.json"
AUDIT_FILE = "audit.json"


@dataclass(frozen=True, kw_only=True)
class Bound:
    """An upper bound on what somebody learns."""

    epsilon: float
    """Infinite where one of several runs does not hold what it promised."""
    delta: float


@dataclass(frozen=True, kw_only=True)
class Share:
    """What a run is part of: a sweep, that is, several runs that differ in their settings."""

    cells: int = 0
    """Private runs in it; 0 while the sweep's sum is not known."""
    publish_all: Bound | None = None
    publish_best: Bound | None = None
    drawn: bool = False
    """Whether the number of its runs was drawn beforehand and is a secret (random stopping)."""
    chosen: bool = False
    """Whether it is the one of drawn runs that may be published, at ``publish_best``."""
    beside: bool = False
    """Whether other sweeps of drawn runs on the same data exist, whose best one could choose instead."""
    sweep: str = ""
    """Its name in the ledger."""
    recorded: int = 0
    """Starts of its runs that the sum knows; the ledger may hold later ones."""

    def outdated(self) -> Share:
        """The same where the ledger holds further starts: no bound is known, and nothing may be published by it."""
        unknown = None if self.publish_best is None else Bound(epsilon=math.inf, delta=self.publish_best.delta)
        return dataclasses.replace(self, publish_all=unknown, publish_best=unknown, chosen=False)


@dataclass(frozen=True, kw_only=True)
class Total:
    """What the ledger of a data set holds."""

    runs: int
    """Private runs, each start that counts."""
    elsewhere: int
    """Those of them on other data that have images in common with these."""
    bound: Bound
    """Of the models of all of them."""
    not_private: int
    """Further runs, whose noise anyone can compute."""
    last: str
    """Day, ISO 8601, on which the last of them began."""


@dataclass(frozen=True)
class Book:
    """The ledger of one data set."""

    entries: Sequence[Entry]
    elsewhere: Sequence[Entry]
    """In the ledgers of data that have images in common with these."""
    fault: str | None
    """Why it cannot be read; None where it can."""

    @functools.cached_property
    def void(self) -> str | None:
        """That runs in it have an epsilon that does not hold, so that there is no sum; None where there are none."""
        void = sum(entry.void is not None for entry in self._every)
        return f"counts {pluralize(void, 'run')} of earlier versions, whose ε may not hold" if void else None

    @functools.cached_property
    def total(self) -> Total | None:
        """What all private runs in it spend together; None when there is none."""
        private = [entry for entry in self._every if entry.planned.private]
        if not private:
            return None
        bound = Bound(epsilon=private[0].epsilon, delta=private[0].planned.delta)
        if len(private) > 1 and (composed := compose_entries(private)) is not None:
            bound = Bound(epsilon=composed.epsilon, delta=composed.delta)
        return Total(
            runs=len(private),
            bound=bound,
            elsewhere=sum(entry.planned.private for entry in self.elsewhere),
            not_private=len(self._every) - len(private),
            last=max(entry.started for entry in self._every)[:10],
        )

    @property
    def _every(self) -> list[Entry]:
        return [*self.entries, *self.elsewhere]


class Books:
    """Ledgers, each of them read once."""

    def __init__(self) -> None:
        self._read: dict[Path, Book] = {}

    def open(self, ledger_dir: str | None, origin: str) -> Book:
        """The ledger in ``ledger_dir`` (None: the user's own) of the data with the hash ``origin``."""
        folder, contents = ledger_folder(ledger_dir), contents_of(origin)
        path = folder / f"{contents}.jsonl"
        if path not in self._read:
            self._read[path] = _read_book(folder, contents)
        return self._read[path]


def _read_book(folder: Path, contents: str) -> Book:
    ledger = Ledger(folder, contents)
    try:
        entries = ledger.entries()
        others = [other for other, _ in related(ledger, find_ledgers(folder))]
        elsewhere = [entry for other in others for entry in other.entries()]
        if any(line["kind"] == DRAWN for one in (ledger, *others) for line in one.lines()):
            return Book(entries, elsewhere, "holds trials whose number is not to be told")
    except BrokenChain:
        # why is not told here: it names folders of this machine, and the page travels
        return Book((), (), "is broken (`python -m runner ledger verify` says how)")
    except OSError as error:
        return Book((), (), f"cannot be read ({error.strerror or error})")
    return Book(entries, elsewhere, None if entries else "is not here")


@dataclass(frozen=True, kw_only=True)
class Audited:
    """What an audit of the run found."""

    passed: bool
    failures: tuple[str, ...]
    lower_bound: float
    """Smallest epsilon that what was found allows."""
    confidence: float
    measurable: float
    """Lower bound that it would have found had it seen everything."""
    day: str


@dataclass(frozen=True, kw_only=True)
class Facts:
    """All that a statement says, before it is put into words."""

    name: str
    data: str
    model: str
    examples: int
    status: str
    day: str | None
    """Day, ISO 8601, on which it ended."""
    bound: Bound | None
    """None where nothing is promised: a seed for the noise was set."""
    void: str | None
    """Why the epsilon that the run was given does not hold; None where it does."""
    counted_whole: bool
    """Whether the steps planned count because it is not known how many were made."""
    steps: int
    steps_planned: int
    epsilon_planned: float | None
    """Of all of them; None where no number bounds it."""
    accountant: str
    sample_rate: float
    noise_multiplier: float
    max_grad_norm: float
    adjacency: str
    sampling: str
    validation: str
    """``private``, ``public`` or ``none``."""
    validation_uses: int | None
    """Times that private validation images were looked at; None where that is not known."""
    weights: str | None
    """Weights that it started from; None for random numbers."""
    share: Share | None
    ledger: Total | str | None
    """What all runs on the data spend together, or why that is not known; None where it is not to be told here."""
    audited: Audited | None


def gather(
    run_dir: Path,
    record: RunRecord,
    books: Books,
    *,
    ledger_dir: str | None,
    drawn: bool,
    sweep_dir: Path | None = None,
) -> Facts | None:
    """What is known of the private run in ``run_dir``; None for an ordinary run, and for one that never began.

    Args:
        run_dir: The run's folder.
        record: Its ``run.json``.
        books: Ledgers that were read before.
        ledger_dir: ``privacy.ledger_dir`` as the run had it.
        drawn: Whether its sweep is of a number of runs that was drawn beforehand (``privacy.selection``).
        sweep_dir: Folder of the sweep that it belongs to; None looks for one around it.

    Raises:
        RunError: one of the run's or of the sweep's files is damaged.
    """
    semantic = record.plan.get("semantic", {})
    if semantic.get("privacy") is None:
        return None
    share = read_share(run_dir, sweep_dir or find_sweep(run_dir), drawn=drawn)
    try:
        book = books.open(ledger_dir, str(semantic["data"].get("contents") or semantic["data"]["origin"]))
        if share is not None and share.recorded < sum(entry.planned.sweep == share.sweep for entry in book.entries):
            share = share.outdated()
        return _gather(run_dir, record, book, share or (Share(drawn=drawn) if sweep_dir else None), drawn=drawn)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"{run_dir.name}/{RUN_FILE}: not the record of a private run ({error})") from error


def _gather(run_dir: Path, record: RunRecord, book: Book, share: Share | None, *, drawn: bool) -> Facts:
    semantic, spent = record.plan["semantic"], record.privacy
    planned = semantic["privacy"]
    identity, name = record.plan["identity"], run_dir.absolute().name
    ours = [
        entry
        for entry in book.entries
        if entry.planned.identity == identity and Path(entry.planned.folder).name == name
    ]
    if share is None and any(entry.planned.sweep is not None for entry in ours):
        share = Share(drawn=drawn)
    epsilon = planned["epsilon"] if spent is None else spent.epsilon
    promised = None
    if record.void is None and planned["unsafe_noise_seed"] is None and epsilon is not None and math.isfinite(epsilon):
        promised = Bound(epsilon=float(epsilon), delta=float(planned["delta"]))
    weights, examples = semantic["weights"], semantic["data"]["examples"]
    return Facts(
        name=_plain(record.name),
        data=_plain(semantic["data"]["name"]),
        model=_plain(semantic["model"]["name"]),
        examples=int(examples),
        status=record.status,
        day=None if record.finished is None else _plain(record.finished[:10]),
        bound=promised,
        void=None if record.void is None else _plain(f"{record.void[:1].upper()}{record.void[1:]}."),
        counted_whole=spent is None,
        steps=int(semantic["steps"] if spent is None else spent.steps),
        steps_planned=int(semantic["steps"]),
        epsilon_planned=planned["epsilon"],
        accountant=_plain(planned["accountant"]),
        sample_rate=float(planned["sample_rate"]),
        noise_multiplier=float(planned["noise_multiplier"]),
        max_grad_norm=float(planned["max_grad_norm"]),
        adjacency=_plain(planned["adjacency"]),
        sampling=_plain(planned["sampling"]),
        validation=_plain(planned["validation"]),
        validation_uses=sum(entry.uses for entry in ours) if ours else None,
        weights=None if weights is None else _plain(weights),
        share=share,
        ledger=book.fault or book.void or book.total if share is None or (share.cells and not share.drawn) else None,
        audited=read_audit(run_dir / AUDIT_FILE, planned),
    )


def _plain(text: object) -> str:
    """``text`` from a file that may be a stranger's, so that it can be no markup of ours."""
    return " ".join(str(text).replace("`", "'").split())


def find_sweep(run_dir: Path) -> Path | None:
    """The folder, up to three above ``run_dir``, that holds the sum of a sweep; None for a run by itself."""
    above = run_dir.absolute().parents
    return next((folder for folder in above[:3] if (folder / SPENDING_FILE).is_file()), None)


def read_audit(path: Path, planned: Mapping[str, Any]) -> Audited | None:
    """The audit in ``path``; None where there is none, or one of another mechanism than ``planned``.

    Raises:
        RunError: it is damaged.
    """
    if not path.exists():
        return None
    try:
        found = read_json(path)
        attacked = found["plan"]["semantic"]["privacy"]
        if any(attacked[key] != planned[key] for key in ("noise_multiplier", "sample_rate", "max_grad_norm")):
            return None
        return Audited(
            passed=bool(found["passed"]),
            failures=tuple(str(name) for name in found["failures"]),
            lower_bound=float(found["epsilon"]["lower_bound"]),
            confidence=float(found["epsilon"]["confidence"]),
            measurable=float(found["epsilon"]["measurable"]),
            day=str(found["finished"])[:10],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path.parent.name}/{AUDIT_FILE}: not the record of an audit ({error})") from error


def read_share(run_dir: Path, sweep_dir: Path | None, *, drawn: bool) -> Share | None:
    """The part of the sweep's sum that concerns the run in ``run_dir``; None where no sum names it.

    Raises:
        RunError: the file that holds the sum is damaged.
    """
    if sweep_dir is None:
        return None
    try:
        found = read_json(sweep_dir / SPENDING_FILE)
        name = run_dir.absolute().name
        for data in found.get("data", ()):
            if name not in {cell["cell"] for cell in data["cells"]} or data["publish_all"] is None:
                continue
            best = _bound(data["publish_best"])
            holds = math.isfinite(best.epsilon) and str(data["publish_best"]["by"]).startswith("random stopping")
            return Share(
                cells=sum(cell["private"] for cell in data["cells"]),
                publish_all=_bound(data["publish_all"]),
                publish_best=best,
                drawn=drawn,
                chosen=drawn and holds and found.get("best_cell") == name,
                beside=bool((found.get("publishable") or {}).get("beside")),
                sweep=str(found["sweep"]),
                recorded=len(data["cells"]),
            )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{SPENDING_FILE}: not a record of what was spent ({error})") from error
    return None


def _bound(found: Mapping[str, Any]) -> Bound:
    epsilon = found["epsilon"]  # None where that of one of the runs does not hold: JSON has no word for infinity
    return Bound(epsilon=math.inf if epsilon is None else float(epsilon), delta=float(found["delta"]))
