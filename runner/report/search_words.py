"""Searches in words: the answer of one, a trial, and what a trial found."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

from runner.config.words.pluralize import pluralize
from runner.privacy.accounting.privacy_text import epsilon_text
from runner.records.printable import printable
from runner.report.cells import CellResult, SweepResults
from runner.report.confirmation import Confirmed, confirmed
from runner.report.search_records import Search, Trial
from runner.report.statistics import mean_interval

OPTIMISTIC = "selected, so optimistic"
"""What is said of a best value: it was the largest of several, and chance made it larger still."""

_NAMES = {"val_accuracy": "validation accuracy", "val_loss": "validation loss", "samples_per_second": "images/s",
          "peak_bytes": "MiB", "epsilon": "ε"}  # fmt: skip
_FORMS: dict[str, Callable[[float], str]] = {
    "val_accuracy": lambda value: f"{100 * value:.2f} %",
    "seconds": "{:,.1f}".format,
    "samples_per_second": "{:,.0f}".format,
    "peak_bytes": lambda value: f"{value / 2**20:,.0f}",
    "epsilon": epsilon_text,
}
_MOST_TIED = 6


def search_verdict(sweep: SweepResults, search: Search, confidence: float) -> str:
    """The best trial of ``search``, with what must be said of its value, or how many no other beats.

    ``confidence`` is that of the interval of what it came to on fresh seeds.
    """
    best, completed = search.best(), pluralize(len(search.complete), "completed trial")
    if best is None:
        return f"No trial of {len(search.trials)} has given a value yet."
    if len(search.directions) > 1:
        verb = "is" if len(search.front) == 1 else "are"
        return f"{len(search.front)} of {completed} {verb} beaten by none in all objectives."
    about = " ".join(filter(None, map(_subject(sweep, search), (("model", "of"), ("data", "on")))))
    value = f"{objective_name(search, 0)} {objective_text(search, 0, best.values[0])}"
    return (
        f"Best of {completed}{f' {about}' if about else ''}: {params_text(best)}, with {value} (trial {best.number};"
        f" {OPTIMISTIC}{_on_fresh_seeds(sweep, search, confidence)}).{_ties(search)}"
    )


def _on_fresh_seeds(sweep: SweepResults, search: Search, confidence: float) -> str:
    """What the best trial came to on seeds that did not select it, where it was run on some."""
    found = confirmed(sweep, search)
    if found is None:
        return ""
    if not found.values:
        return "; none of its runs on fresh seeds has a value"
    text = "; on " + count_fresh(found)
    return f"{text} {mean_text(found.values, lambda value: objective_text(search, 0, value), confidence)}"


def count_fresh(found: Confirmed) -> str:
    """``5 fresh seeds``, and how many have failed or not ended."""
    have, failed, waiting = (
        len(found.values),
        sum(cell.failed for cell in found.cells),
        sum(cell.unfinished for cell in found.cells),
    )
    beside = [f"{failed} failed" if failed else "", f"{waiting} not ended" if waiting else ""]
    text = ", ".join(filter(None, beside))
    return pluralize(have, "fresh seed") + (f" (of {len(found.cells)}: {text})" if text else "")


def mean_text(values: Sequence[float], text: Callable[[float], str], confidence: float) -> str:
    """The mean of ``values``, each as ``text`` says it, with the interval of the mean."""
    mean, (low, high) = sum(values) / len(values), mean_interval(values, confidence)
    if math.isnan(low):
        return text(mean) if len(values) == 1 else f"{text(mean)} on average"
    return f"{text(mean)} on average, {confidence:.0%} interval {text(low)} to {text(high)}"


def _subject(sweep: SweepResults, search: Search) -> Callable[[tuple[str, str]], str]:
    """What all trials share of a key; nothing where they differ in it."""

    def said(key_and_word: tuple[str, str]) -> str:
        key, word = key_and_word
        value = None if key in search.varied or not sweep.cells else sweep.cells[0].value(key)
        return "" if value is None else f"{word} {printable(value)}"

    return said


def _ties(search: Search) -> str:
    tied = search.ties
    if len(tied) < 2:
        return ""
    numbers = [str(trial.number) for trial in tied]
    named = ", ".join(numbers) if len(numbers) <= _MOST_TIED else f"{', '.join(numbers[:_MOST_TIED])}, ..."
    return f" {len(tied)} trials tie at this value ({named}): the search does not tell them apart."


def describe_trial(search: Search, trial: Trial) -> str:
    """A trial in words: its number, what it found and what it tried."""
    values = ", ".join(
        f"{objective_name(search, place)} {objective_text(search, place, value)}"
        for place, value in enumerate(trial.values)
    )
    return f"trial {trial.number} ({values}): {params_text(trial)}"


def params_text(trial: Trial) -> str:
    """What it tried, in as many digits as matter."""
    return " ".join(f"{key}={short(value)}" for key, value in trial.params.items())


def objective_name(search: Search, place: int) -> str:
    """The objective at ``place`` in words, for a table or a sentence."""
    if not search.objectives:
        return "value" if len(search.directions) == 1 else f"objective {place + 1}"
    name = search.objectives[place]
    return _NAMES.get(name, name.replace("_", " "))


def objective_text(search: Search, place: int, value: float) -> str:
    """A value of the objective at ``place``, with its unit where the name does not say it."""
    name = search.objectives[place] if search.objectives else ""
    return _FORMS.get(name, "{:.4g}".format)(value)


def short(text: str) -> str:
    """A number of many digits with three that count; everything else as it is."""
    if re.fullmatch(r"-?\d*\.?\d+(e[-+]?\d+)?", text) and len(re.sub(r"e.*|\D", "", text).lstrip("0")) > 3:
        return text if text.lstrip("-").isdigit() else f"{float(text):.3g}"
    return printable(text)


def cell_of(sweep: SweepResults, trial: Trial) -> CellResult | None:
    """The run of ``trial``; None where the search did not say which it is, or it has gone."""
    return next((cell for cell in sweep.cells if trial.folder and cell.name == trial.folder), None)
