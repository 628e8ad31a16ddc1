"""How much each parameter of a search mattered, and how much chance would show: by Optuna, from the trials' files."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import optuna
from optuna import logging
from optuna.distributions import CategoricalDistribution, FloatDistribution

_SHUFFLES = 99


@dataclass(frozen=True)
class Importances:
    """What sets the best trials apart, and what chance alone would show."""

    of: dict[str, float]
    """Parameter -> importance by PED-ANOVA (Watanabe et al. 2023), not normalised; the largest first."""
    chance: float
    """Largest importance that some parameter reaches in all but 5 % of the shufflings of the values over the trials."""


def importances_of(params: Sequence[Mapping[str, str]], values: Sequence[float], *, direction: str) -> Importances:
    """The importance of each parameter, beside a permutation test (Fisher 1935) of the largest of them.

    Args:
        params: of each trial, as texts, all with the same keys.
        values: the objective of each.
        direction: of the objective, ``minimize`` or ``maximize``.
    """
    distributions = {name: _distribution([one[name] for one in params]) for name in params[0]}
    typed = [{name: _value(text, distributions[name]) for name, text in one.items()} for one in params]
    shuffled, draw = list(values), random.Random(0)  # the same files give the same report
    largest = []
    with _quiet_optuna():
        found = _evaluate(typed, distributions, values, direction)
        for _ in range(_SHUFFLES):
            draw.shuffle(shuffled)
            largest.append(max(_evaluate(typed, distributions, shuffled, direction).values()))
    return Importances(found, sorted(largest)[round(0.95 * (_SHUFFLES + 1)) - 1])


def _evaluate(
    params: Sequence[dict[str, Any]], distributions: dict[str, Any], values: Sequence[float], direction: str
) -> dict[str, float]:
    study = optuna.create_study(direction=optuna.study.StudyDirection[direction.upper()])
    study.add_trials(
        [
            optuna.trial.create_trial(params=one, distributions=distributions, value=value)
            for one, value in zip(params, values, strict=True)
        ]
    )
    found = optuna.importance.PedAnovaImportanceEvaluator().evaluate(study)
    return dict(sorted(found.items(), key=lambda item: -item[1]))


@contextmanager
def _quiet_optuna() -> Iterator[None]:
    """Keep Optuna from announcing a study that lives for a moment."""
    level = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)
    try:
        yield
    finally:
        logging.set_verbosity(level)


def _distribution(texts: Sequence[str]) -> Any:
    """A range that holds the values, of logarithms where they span two decades; a choice where one is a word."""
    try:
        low, high = min(map(float, texts)), max(map(float, texts))
    except ValueError:
        return CategoricalDistribution(sorted(set(texts)))
    return FloatDistribution(low, high, log=low > 0 and high >= 100 * low)


def _value(text: str, distribution: Any) -> float | str:
    return text if hasattr(distribution, "choices") else float(text)
