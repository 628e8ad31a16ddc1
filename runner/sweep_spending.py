"""``privacy.json`` of a sweep: what its private cells spent, each and together, as the ledger tells it."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from runner.config.counted import counted
from runner.config.errors import RunError
from runner.config.privacy_figures import epsilon_text
from runner.disk.json_files import read_json
from runner.privacy.chain import BrokenChain
from runner.privacy.ledger import Entry, find_ledgers
from runner.privacy.sweep import BEST_BY_RANDOM_STOPPING, UNCOVERED, DataSpending, spending_of
from runner.records.json_values import write_json
from runner.sweeping.drawn_trials import best_trial, is_drawn, read_selection

SPENDING_FILE = "privacy.json"


def identify_sweep(sweep_dir: Path, known: str | None = None) -> str:
    """The identity of the sweep in ``sweep_dir``, drawn at its first private cell; two that start at once agree on it.

    ``known`` is the identity where it was drawn elsewhere: the workers of one search may have a folder each.

    A sweep that is started again in the same folder is the same sweep: what it spent before counts.

    Raises:
        RunError: the file that holds it is damaged.
    """
    path = sweep_dir / SPENDING_FILE
    if not path.exists():
        drawn = path.with_name(f".{SPENDING_FILE}.{secrets.token_hex(4)}.tmp")
        write_json(drawn, {"sweep": known or secrets.token_hex(16)})
        with contextlib.suppress(FileExistsError):  # a link, unlike a rename, replaces nothing
            path.hardlink_to(drawn)
        drawn.unlink()
    try:
        return str(read_json(path)["sweep"])
    except (ValueError, TypeError, KeyError) as error:
        raise RunError(f"{sweep_dir.name}/{SPENDING_FILE}: damaged, so what was spent is unknown ({error})") from error


def write_spending(sweep_dir: Path, folders: Iterable[Path], *, ordinary: int) -> list[DataSpending]:
    """Read what the sweep has spent from the ledgers in ``folders`` and replace ``privacy.json``, atomically.

    ``ordinary`` is the number of cells that ran without privacy.

    Raises:
        RunError: a ledger is broken or cannot be read.
    """
    sweep = identify_sweep(sweep_dir)
    selection = read_selection(sweep_dir) if is_drawn(sweep_dir) else None
    try:
        found = [spent for folder in sorted(folders) for spent in spending_of(sweep, find_ledgers(folder), selection)]
    except BrokenChain as broken:
        raise RunError(f"the privacy ledger is broken: {broken}") from broken
    except OSError as error:
        raise RunError(f"the privacy ledger cannot be read: {error.strerror or error}") from error
    write_json(
        sweep_dir / SPENDING_FILE,
        {
            "sweep": sweep,
            "cells_without_privacy": ordinary,
            "best_cell": None if selection is None else best_trial(sweep_dir),
            "data": [_described(spent) for spent in found],
        },
    )
    return found


def render_spending(found: Iterable[DataSpending], *, ordinary: int, best: str | None = None) -> str:
    """The same in a few lines for people; each ends with a line end.

    ``best`` is the name of the cell that random stopping allows to publish.
    """
    lines = []
    for spent in found:
        private = [cell for cell in spent.cells if cell.planned.private]
        if spent.composed is not None and spent.composed.void:
            lines += [
                f"privacy of {counted(len(private), 'cell')} on {spent.data}: no bound is known",
                *(f"  void: {reason}" for reason in spent.composed.void),
            ]
        elif spent.composed is not None:
            epsilons = [cell.epsilon for cell in private]
            low, high = epsilon_text(min(epsilons)), epsilon_text(max(epsilons))
            composed = epsilon_text(spent.composed.epsilon)
            assert spent.best is not None
            lines += [
                f"privacy of {counted(len(private), 'cell')} on {spent.data}, δ={spent.composed.delta:g}:",
                f"  each cell              ε={low}" + ("" if low == high else f" to {high}"),
                f"  publishing all cells   ε={composed} ({spent.composed.accountant} composition)",
                f"  publishing the best    ε={epsilon_text(spent.best.epsilon)}, by {spent.best_by}",
            ]
            if best is not None and spent.best_by == BEST_BY_RANDOM_STOPPING:
                lines.append(f"  the best               cell {best}")
        if spent.public:
            lines.append(f"  not private at all, by privacy.unsafe_noise_seed: {counted(len(spent.public), 'cell')}")
        if spent.uncovered:
            lines.append(f"  {counted(spent.uncovered, 'evaluation')} {UNCOVERED}")
    if lines and ordinary:
        lines.append(f"  {counted(ordinary, 'cell')} ran without privacy, which no ε covers")
    return "".join(f"{line}\n" for line in lines)


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
