"""The title of a report: the question that its sweep asks."""

from __future__ import annotations

from collections.abc import Sequence

from runner.records.printable import printable
from runner.report.cells import SweepResults

_NAMES = {
    "optimizer.lr": "learning rate",
    "data.batch_size": "batch size",
    "data.num_train": "number of training images",
    "trainer.accumulation_steps": "number of accumulation steps",
    "trainer.clip_norm": "clipping norm",
    "trainer.epochs": "number of epochs",
    "trainer.steps": "number of updates",
    "precision.amp_dtype": "precision",
    "privacy.epsilon": "privacy budget ε",
    "privacy.delta": "δ",
    "privacy.max_grad_norm": "clipping norm",
    "hardware.processes": "number of processes",
    "hardware.threads": "number of threads",
}
"""Of the keys whose last word does not name them."""
_MOST_NAMED = 3


def title_of(sweep: SweepResults, keys: Sequence[str]) -> str:
    """The question of ``sweep``, whose recipes differ in ``keys``; of a single run its name."""
    if keys:
        return which(keys)
    one = sweep.cells[0]
    if len(sweep.cells) == 1:
        return printable(one.name if one.record is None else one.record.name)
    model, data = one.value("model"), one.value("data")
    return f"How well does {printable(model)} do on {printable(data)}?" if model and data else "How well does it do?"


def which(keys: Sequence[str]) -> str:
    """The question whose answers differ in ``keys``, of which there is at least one."""
    names = list(dict.fromkeys(map(_named, keys)))
    if len(names) > _MOST_NAMED + 1:
        names[_MOST_NAMED:] = [f"{len(names) - _MOST_NAMED} more"]
    return f"Which {_listed(names)}?"


def _named(key: str) -> str:
    return _NAMES.get(key) or printable(key.rpartition(".")[2].replace("_", " "))


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
