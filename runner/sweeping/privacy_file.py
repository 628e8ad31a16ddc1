"""``privacy.json`` of a sweep: what its private cells spent, each and together, as the ledger tells it."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from runner.config.words.pluralize import pluralize
from runner.disk.json_files import read_json
from runner.errors import RequestError, RunError
from runner.privacy.accounting.composition import Composed
from runner.privacy.accounting.privacy_text import delta_text, epsilon_text
from runner.privacy.accounting.renyi_filter import ACCOUNTANT
from runner.privacy.accounting.sweep_epsilon import BEST_BY_RANDOM_STOPPING, UNCOVERED, DataSpending, spending_of
from runner.privacy.ledger.chain import BrokenChain
from runner.privacy.ledger.ledger import Entry, find_ledgers, ledger_folder
from runner.records.json_values import write_json
from runner.report.cells import SweepResults
from runner.sweeping.random_trials import best_trial
from runner.sweeping.selection_file import is_drawn, read_draw

SPENDING_FILE = "privacy.json"


def identify_sweep(sweep_dir: Path, known: str | None = None) -> str:
    """The identity of the sweep in ``sweep_dir``, drawn at its first private cell; two that start at once agree on it.

    ``known`` is the identity where it was drawn elsewhere: the workers of one search may have a folder each.

    A sweep that is started again in the same folder is the same sweep: what it spent before counts.

    Raises:
        RequestError: the folder holds another sweep.
        RunError: the file that holds it is damaged.
    """
    path = sweep_dir / SPENDING_FILE
    if is_drawn(sweep_dir):
        known = read_draw(sweep_dir).sweep
    if not path.exists():
        drawn = path.with_name(f".{SPENDING_FILE}.{secrets.token_hex(4)}.tmp")
        write_json(drawn, {"sweep": known or secrets.token_hex(16)})
        with contextlib.suppress(FileExistsError):  # a link, unlike a rename, replaces nothing
            path.hardlink_to(drawn)
        drawn.unlink()
    try:
        found = str(read_json(path)["sweep"])
    except (ValueError, TypeError, KeyError) as error:
        raise RunError(f"{sweep_dir.name}/{SPENDING_FILE}: damaged, so what was spent is unknown ({error})") from error
    if known is not None and found != known:
        raise RequestError("hydra.sweep.dir", sweep_dir, f"another folder: {SPENDING_FILE} there is of another sweep")
    return found


def write_spending(sweep_dir: Path, folders: Iterable[Path], *, ordinary: int) -> list[DataSpending]:
    """Read what the sweep has spent from the ledgers in ``folders`` and replace ``privacy.json``, atomically.

    ``ordinary`` is the number of cells that ran without privacy.

    Raises:
        RunError: a ledger is broken or cannot be read.
    """
    sweep, drawn = identify_sweep(sweep_dir), is_drawn(sweep_dir)
    try:
        ledgers = [ledger for folder in sorted(folders) for ledger in find_ledgers(folder)]
        found = spending_of(sweep, ledgers, drawn=drawn)
    except BrokenChain as broken:
        raise RunError(f"the privacy ledger is broken: {broken}") from broken
    except OSError as error:
        raise RunError(f"the privacy ledger cannot be read: {error.strerror or error}") from error
    write_json(
        sweep_dir / SPENDING_FILE,
        {
            "sweep": sweep,
            "cells_without_privacy": ordinary,
            "best_cell": best_trial(sweep_dir) if drawn else None,
            "publishable": _publishable(found, sweep_dir) if drawn else None,
            "data": [_described(spent) for spent in found],
        },
    )
    return found


def renew_spending(sweep: SweepResults) -> None:
    """Bring ``privacy.json`` of a finished sweep up to what its ledgers hold by now; none is written where none was.

    Where they do not know all that it tells, on another machine say, it stays as it is.

    Raises:
        RunError: a file that belongs to the sweep, or a ledger, is damaged.
    """
    path = sweep.folder / SPENDING_FILE
    if not path.exists():
        return
    try:
        found = read_json(path)
        told = {cell.get("entry") for data in found.get("data", ()) for cell in data["cells"]}
        ordinary, name = int(found.get("cells_without_privacy", 0)), found["sweep"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{SPENDING_FILE}: not a record of what was spent ({error})") from error
    configs = [cell.config.get("privacy") or {} for cell in sweep.cells]
    folders = {ledger_folder(config.get("ledger_dir")) for config in configs if config.get("enabled")}
    try:
        entries = [entry for folder in folders for ledger in find_ledgers(folder) for entry in ledger.entries()]
    except (BrokenChain, OSError):
        return  # the statements say of a broken ledger that it is
    known = {entry.id for entry in entries if entry.planned.sweep == name}
    if told < known:
        write_spending(sweep.folder, folders, ordinary=ordinary)


def render_spending(found: Iterable[DataSpending], *, ordinary: int, best: str | None = None) -> str:
    """The same in a few lines for people; each ends with a line end.

    ``best`` is the name of the cell that random stopping allows to publish.
    """
    lines = []
    for spent in found:
        private = [cell for cell in spent.cells if cell.planned.private]
        if spent.composed is not None and spent.composed.void:
            lines += [
                f"privacy of {pluralize(len(private), 'cell')} on {spent.data}: no bound is known",
                *(f"  void: {reason}" for reason in spent.composed.void),
            ]
        elif spent.composed is not None:
            epsilons = [cell.epsilon for cell in private]
            low, high = epsilon_text(min(epsilons)), epsilon_text(max(epsilons))
            composed = epsilon_text(spent.composed.epsilon)
            assert spent.best is not None
            lines += [
                f"privacy of {pluralize(len(private), 'cell')} on {spent.data}, δ={delta_text(spent.composed.delta)}:",
                f"  each cell              ε={low}" + ("" if low == high else f" to {high}"),
                f"  publishing all cells   ε={composed} ({_how(spent.composed)})",
                f"  publishing the best    ε={epsilon_text(spent.best.epsilon)}, by {spent.best_by}",
            ]
            if best is not None and spent.best_by == BEST_BY_RANDOM_STOPPING:
                lines.append(f"  the best               cell {best}")
            if spent.other_draws:
                lines.append(f"  {_beside(spent)}")
        if spent.public:
            lines.append(f"  not private at all, by privacy.unsafe_noise_seed: {pluralize(len(spent.public), 'cell')}")
        if spent.uncovered:
            lines.append(f"  {pluralize(spent.uncovered, 'evaluation')} {UNCOVERED}")
    if lines and ordinary:
        lines.append(f"  {pluralize(ordinary, 'cell')} ran without privacy, which no ε covers")
    return "".join(f"{line}\n" for line in lines)


def _how(composed: Composed) -> str:
    return "the budget of an rdp filter" if composed.accountant == ACCOUNTANT else f"{composed.accountant} composition"


def _beside(spent: DataSpending) -> str:
    others = pluralize(spent.other_draws, "other sweep")
    return f"of this sweep alone: {others} by random stopping on these data, and to choose among their best costs more"


def _publishable(found: Iterable[DataSpending], sweep_dir: Path) -> dict[str, Any]:
    """What may leave a sweep of drawn trials, and what not."""
    claims = [spent for spent in found if spent.best_by == BEST_BY_RANDOM_STOPPING]
    return {
        "cell": best_trial(sweep_dir) if claims else None,
        "what": "the weights and the settings of this cell with the ε of publish_best" if claims else None,
        "internal": "everything else in this folder, in its study, in the ledger and in files of trackers: the other"
        " trials, how many they were, and which of them, by its number, was the best",
        "beside": [_beside(spent) for spent in found if spent.other_draws],
    }


def _described(spent: DataSpending) -> dict[str, Any]:
    together, best = (
        None if bound is None else {"epsilon": bound.epsilon, "delta": bound.delta, "accountant": bound.accountant}
        # nothing is known of the best where it is not of all
        for bound in (spent.composed, spent.composed if spent.composed and spent.composed.void else spent.best)
    )
    return {
        "data": spent.data,
        "contents": spent.contents,
        "cells": [_cell(cell) for cell in spent.cells],
        "publish_all": together,
        "publish_best": None if best is None else {**best, "by": spent.best_by},
        "cells_not_private": len(spent.public),
        "evaluations_without_noise": spent.uncovered,
        "void": [] if spent.composed is None else list(spent.composed.void),
        "note": f"evaluations {UNCOVERED}" if spent.uncovered else None,
    }


def _cell(entry: Entry) -> dict[str, Any]:
    planned = entry.planned
    return {
        "cell": Path(planned.folder).name,
        "entry": entry.id,
        "status": entry.status,
        "private": planned.private,
        "epsilon": entry.epsilon if planned.private and entry.void is None else None,
        "void": entry.void,
        "delta": planned.delta,
        "steps": entry.steps,
        "steps_planned": planned.steps,
        "sample_rate": planned.sample_rate,
        "noise_multiplier": planned.noise_multiplier,
        "accountant": planned.accountant,
        "evaluations_without_noise": entry.uses,
    }
