"""What a grid that runs until it is decided (``comparison.until=decided``) has to be."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from hydra.core.override_parser.types import Override

from runner.config.schema import RunConfig
from runner.environment.energy import NO_METER, has_meter
from runner.errors import RequestError

KEY = "comparison.until"

SPLITS = ("data.fold", "data.split_seed")
"""Keys whose values are no independent repeats."""


def check_until(configs: Sequence[RunConfig], varied: Collection[str], *, recipes: int, here: bool) -> None:
    """Refuse to run a grid until it is decided where that has no answer, or would break a promise of privacy.

    ``configs`` are its cells, ``varied`` the keys in which they differ, and ``recipes`` the number of those with one
    seed.  ``here``: they run on this machine.

    Raises:
        RequestError: there is nothing to decide, or its private cells have no account that holds for rounds whose
            number depends on what the earlier ones found.
    """
    if recipes < 2:
        raise RequestError(
            KEY, "decided with one recipe", "several to choose from, such as precision=fp32,bf16, or null"
        )
    for key in SPLITS:
        if key in varied:
            expected = "null: splits of the same images share training data, so more of them decide nothing"
            raise RequestError(KEY, f"decided with several values of {key}", expected)
    if here and configs[0].comparison.decision == "joules" and not has_meter():
        raise RequestError("comparison.decision", "joules", f"another cost: {NO_METER}")
    private = [config.privacy for config in configs if config.privacy.enabled]
    if any(privacy.selection == "random_stopping" for privacy in private):
        expected = "composition, or comparison.until=null: trials that are drawn are not chosen by results"
        raise RequestError("privacy.selection", f"random_stopping with {KEY}=decided", expected)
    if any(privacy.sweep_epsilon is None for privacy in private):
        expected = "a budget for all rounds together: results decide how many there are, which no other account covers"
        raise RequestError("privacy.sweep_epsilon", f"null with {KEY}=decided", expected)


def refuse_beside_seeds(seeds: Override, typed: Collection[str]) -> None:
    """Refuse the several ``seeds`` of an override where ``typed``, the keys of all, say that rounds are to choose them.

    Raises:
        RequestError: they do.
    """
    if KEY in typed:
        got = f"{str(seeds.input_line).partition('=')[2]} with {KEY}=decided"
        raise RequestError("seed", got, "one value: the rounds take this seed and those that follow it")
