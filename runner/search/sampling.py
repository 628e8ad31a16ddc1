"""Samplers and pruners, built from their options, and the search space from its overrides."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler, CmaEsSampler, GridSampler, QMCSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from runner.config.request.search_config import KEY, part_options, target_of, whole_ends
from runner.config.untrusted.targets import locate
from runner.errors import RequestError
from runner.internals.optuna_parts import distributions_of, sampler_beside, values_of
from runner.search.cma_es import CmaEs

Space = dict[str, BaseDistribution]


def read_space(arguments: Sequence[str], *, is_whole: Callable[[str], bool]) -> tuple[Space, list[str]]:
    """The keys to search and how, and the overrides that all trials share; of a key given twice the last counts.

    ``is_whole`` says of which keys an interval holds whole numbers.

    Raises:
        RequestError: values that nothing can be drawn from.
    """
    space: Space = {}
    fixed: dict[str, str] = {}
    for argument in arguments:
        key = argument.partition("=")[0]
        try:
            found = distributions_of(argument)
        except (ValueError, AssertionError) as error:
            raise RequestError(key, argument, f"values to search ({error})") from error
        space.pop(key, None)
        fixed.pop(key, None)
        if found:
            space |= {name: _whole(name, one) if is_whole(name) else one for name, one in found.items()}
        else:
            fixed[key] = argument
    if not space:
        raise RequestError(
            "hydra.sweeper.params", "no key to search", "one such as 'optimizer.lr=tag(log,interval(0.01,1))'"
        )
    return space, list(fixed.values())


def suggest(trial: Trial, key: str, distribution: BaseDistribution) -> None:
    """Have the sampler draw the value of ``key`` for ``trial``."""
    match distribution:
        case FloatDistribution():
            trial.suggest_float(key, distribution.low, distribution.high, step=distribution.step, log=distribution.log)
        case IntDistribution():
            trial.suggest_int(key, distribution.low, distribution.high, step=distribution.step, log=distribution.log)
        case CategoricalDistribution():
            trial.suggest_categorical(key, distribution.choices)
        case _:
            raise TypeError(f"{key}: {distribution!r}")


def _whole(key: str, distribution: BaseDistribution) -> BaseDistribution:
    if not isinstance(distribution, FloatDistribution):
        return distribution
    low, high = whole_ends(key, distribution.low, distribution.high)
    return IntDistribution(low, high, log=distribution.log)


def grid_size(space: Space) -> int:
    """Number of combinations of a space that can be listed.

    Raises:
        RequestError: a key has no values to list.
    """
    return math.prod(len(values) for values in _listed(space).values())


def build_pruner(options: Mapping[str, Any]) -> BasePruner:
    """The pruner with its ``options``.

    Raises:
        RequestError: it refuses them.
    """
    return _build("pruner", locate(f"{KEY}.pruner", target_of(options)), options)


def build_sampler(options: Mapping[str, Any], space: Space) -> BaseSampler:
    """The sampler with its ``options``; with a seed, what it draws for a trial depends on the trials before it alone.

    Raises:
        RequestError: it refuses the options or the space.
    """
    factory = locate(f"{KEY}.sampler", target_of(options))
    if factory is GridSampler:
        return _Grid(_listed(space), seed=options.get("seed"))
    if factory is CmaEsSampler:
        factory = CmaEs
    sampler = _build("sampler", factory, options)
    if options.get("seed") is None or isinstance(sampler, QMCSampler):
        return sampler  # quasi-random sequences are numbered in the study itself
    return _SeededByTrial(factory, options)


def unwrap_seeding(sampler: BaseSampler) -> BaseSampler:
    """The sampler that draws: ``sampler``, or the one in it that is made anew for each trial."""
    return sampler._sampler if isinstance(sampler, _SeededByTrial) else sampler


def ignores_results(sampler: BaseSampler) -> bool:
    """Whether ``sampler`` is known not to look at what trials gave; a subclass may do anything."""
    made = unwrap_seeding(sampler)
    if type(made) is QMCSampler:
        return type(sampler_beside(made)) is RandomSampler
    return type(made) in (RandomSampler, GridSampler, _Grid)


def _build(part: str, factory: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    arguments = part_options(f"{KEY}.{part}", options)
    try:
        with warnings.catch_warnings():
            # whoever chooses such an option knows that it is young
            warnings.simplefilter("ignore", ExperimentalWarning)
            return factory(**arguments)
    except (ValueError, TypeError, ImportError) as error:
        reason = str(error).splitlines()[0]
        raise RequestError(
            f"hydra/sweeper/{part}", options.get("_target_"), f"options that it takes ({reason})"
        ) from error


def _listed(space: Space) -> dict[str, Sequence[Any]]:
    listed = {}
    for key, distribution in space.items():
        try:
            listed[key] = values_of(distribution)
        except ValueError as error:
            raise RequestError(key, "an interval", "values to list with hydra/sweeper/sampler=grid") from error
    return listed


class _Grid(GridSampler):
    """Optuna's grid, whose end is a matter of counting here: it would stop a loop that is not Optuna's."""

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Nothing to do."""


class _SeededByTrial(BaseSampler):
    """A sampler made anew for each trial, from a seed and the trial's number.

    So a search that was interrupted goes on as it would have gone on, and workers that were given the same seed do not
    draw the same values.
    """

    def __init__(self, factory: Callable[..., BaseSampler], options: Mapping[str, Any]) -> None:
        self._factory = factory
        self._options = dict(options)
        self._sampler: BaseSampler = _build("sampler", factory, options)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        words = numpy.random.SeedSequence([self._options["seed"], trial.number]).generate_state(1)
        self._sampler = _build("sampler", self._factory, self._options | {"seed": int(words[0])})
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        self._sampler.after_trial(study, trial, state, values)
