"""How much each parameter of a search mattered: Optuna's evaluator on the trials that a search has written down."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import optuna
from optuna import logging
from optuna.distributions import CategoricalDistribution, FloatDistribution


def importances_of(params: Sequence[Mapping[str, str]], values: Sequence[float], *, direction: str) -> dict[str, float]:
    """Parameter -> its share in what sets the best trials apart (PED-ANOVA, Watanabe et al. 2023); largest first.

    Args:
        params: of each trial, as texts, all with the same keys.
        values: the objective of each.
        direction: of the objective, ``minimize`` or ``maximize``.
    """
    distributions = {name: _distribution([one[name] for one in params]) for name in params[0]}
    with _quiet_optuna():
        study = optuna.create_study(direction=optuna.study.StudyDirection[direction.upper()])
    for one, value in zip(params, values, strict=True):
        typed = {name: _value(text, distributions[name]) for name, text in one.items()}
        study.add_trial(optuna.trial.create_trial(params=typed, distributions=distributions, value=value))
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


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
