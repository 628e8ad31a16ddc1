"""Searches in words: the answer of one, and a trial."""

from __future__ import annotations

from runner.report.search_records import Search, Trial


def search_verdict(search: Search) -> str:
    """The best trial of ``search``, or how many none beats, in a sentence."""
    best = search.best()
    if best is None:
        return f"No trial of {len(search.trials)} has given a value yet."
    if len(search.directions) > 1:
        return f"{len(search.front)} of {len(search.complete)} completed trials are beaten by none in all objectives."
    return f"Best of {len(search.complete)} completed trials: {describe_trial(best)}."


def describe_trial(trial: Trial) -> str:
    """A trial in words: its number, what it found and what it tried."""
    values = ", ".join(f"{value:.6g}" for value in trial.values)
    return f"trial {trial.number} ({values}): {' '.join(f'{key}={value}' for key, value in trial.params.items())}"
