"""A check that trials are drawn independently of each other, by the sampler's class and not its name."""

from __future__ import annotations

from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import BaseSampler, GridSampler, RandomSampler

from runner.config.request.search_config import KEY, SearchConfig
from runner.errors import RequestError
from runner.search.sampling import ignores_results, unwrap_seeding

_SELECTION = "with privacy.selection=random_stopping"


def learns_from_trials(sampler: BaseSampler, search: SearchConfig) -> bool:
    """Whether the settings of a trial may depend on what earlier ones gave, as those of a custom space may."""
    return search.custom_search_space is not None or not ignores_results(sampler)


def require_random_trials(sampler: BaseSampler, pruner: BasePruner, search: SearchConfig, monitor: str) -> None:
    """Refuse a search whose trials are not drawn independently, run to their ends and ranked by one figure.

    ``monitor`` is the figure by which the best run is named.

    Raises:
        RequestError: names the first key that stands against it.
    """
    made = unwrap_seeding(sampler)
    if type(made) is not RandomSampler:
        name = "grid" if isinstance(made, GridSampler) else type(made).__name__
        raise RequestError("hydra/sweeper/sampler", name, f"random {_SELECTION}: trials must not depend on each other")
    if made is not sampler:
        raise RequestError("hydra.sweeper.sampler.seed", "a number", f"null {_SELECTION}: it would tell the settings")
    if type(pruner) is not NopPruner:
        raise RequestError(
            "hydra/sweeper/pruner", type(pruner).__name__, f"none {_SELECTION}: each trial is a whole run"
        )
    if search.custom_search_space is not None:
        raise RequestError(
            f"{KEY}.custom_search_space", search.custom_search_space, f"null {_SELECTION}: it sees the trials before it"
        )
    if search.objectives != [monitor] or search.constraints:
        asked = [*search.objectives, *search.constraints]
        raise RequestError(f"{KEY}.objectives", asked, f"[{monitor}] alone {_SELECTION}, by which the best is named")
