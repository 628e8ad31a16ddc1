"""The configuration of a search (``hydra/sweeper=optuna``) and its checks, without Optuna."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep, Transformer
from omegaconf import AnyNode, DictConfig, IntegerNode, OmegaConf, UnionNode
from omegaconf.errors import OmegaConfBaseException

from runner.config.groups import OPEN
from runner.config.rules.ranges import AT_LEAST_0, AT_LEAST_1, POSITIVE, SHARE, Range
from runner.config.schema import RunConfig
from runner.config.untrusted.targets import check_target, refuse_instructions
from runner.errors import RequestError, nearest
from runner.internals.omegaconf_nodes import node_of, value_of

SWEEPER = "runner.search.sweeper.SearchSweeper"
"""``_target_`` of ``hydra/sweeper=optuna``."""

KEY = "hydra.sweeper"

DIRECTIONS = {
    "val_accuracy": "maximize",
    "val_loss": "minimize",
    "seconds": "minimize",
    "samples_per_second": "maximize",
    "peak_bytes": "minimize",
    "epsilon": "minimize",
}
"""What a search may be for, each with its direction.  ``seconds`` are those of training, over interruptions too."""

EACH_EPOCH = ("val_accuracy", "val_loss")
"""What is known while a run goes on, so that a pruner can judge by it."""

NO_PRUNER = "optuna.pruners.NopPruner"

_LIMIT = re.compile(r"\s*(\w+)\s*(<=|>=)\s*(\S+)\s*")


@dataclass
class SearchConfig:
    """The keys of ``hydra/sweeper=optuna``."""

    sampler: Any = None
    """How values are drawn: an option of ``hydra/sweeper/sampler``.  With its ``seed`` a search repeats itself."""
    pruner: Any = None
    """Which trials end early: an option of ``hydra/sweeper/pruner``."""
    objectives: list[str] = field(default_factory=lambda: ["val_accuracy"])
    """What is searched for: one of ``DIRECTIONS``, or several for a Pareto front."""
    direction: Any = None
    """``minimize`` or ``maximize``, one for each objective; null takes the objective's own, and no other is right."""
    constraints: list[str] = field(default_factory=list)
    """Limits such as ``peak_bytes <= 2e9`` that the answer has to keep; the sampler learns from trials that do not."""
    n_trials: int = 20
    """Trials of the whole study: all starts and all workers together."""
    n_jobs: int = 1
    """Trials that this worker hands to its launcher at once."""
    storage: str | None = None
    """Where the study is kept: null for ``search.journal`` in the sweep's folder, ``memory`` for not beyond the search,
    the path of a journal file, or a URL such as ``sqlite:///search.db`` or ``postgresql://host/database``."""
    study_name: str | None = None
    """Name of the study in its storage; null takes the name of the question (``sweep=NAME``), or ``search``."""
    max_failure_rate: float = 1.0
    """Share of the trials handed out at once that may fail without ending the search."""
    stale_after: float = 120.0
    """Seconds without a sign of life after which a worker on another machine counts as gone."""
    custom_search_space: str | None = None
    """Import path of a callable ``f(config, trial)`` that may suggest further values."""
    confirm: int = 0
    """Fresh seeds on which the best trial is run at the end, since the value by which it was selected flatters it."""
    params: dict[str, Any] | None = None
    """Key -> the values to search, as they would be typed."""


_RULES: dict[str, Range] = {
    "n_trials": AT_LEAST_1,
    "n_jobs": AT_LEAST_1,
    "confirm": AT_LEAST_0,
    "max_failure_rate": SHARE,
    "stale_after": POSITIVE,
}


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A constraint: a figure that may not pass a bound."""

    figure: str
    """One of ``DIRECTIONS``."""
    upper: bool
    """Whether ``bound`` is the most allowed, or else the least."""
    bound: float

    def excess(self, value: float) -> float:
        """By how much of the bound ``value`` passes it; not above 0 where the constraint is kept."""
        over = value - self.bound if self.upper else self.bound - value
        return over / abs(self.bound) if self.bound else over

    def __str__(self) -> str:
        return f"{self.figure} {'<=' if self.upper else '>='} {self.bound:g}"


def load_search(sweeper: DictConfig) -> SearchConfig:
    """The typed form of ``hydra.sweeper`` in a composed configuration.

    Raises ``RequestError`` for a value of the wrong type, or one that leads nowhere.
    """
    try:
        plain = OmegaConf.to_container(sweeper, resolve=True)
        assert isinstance(plain, dict)
        del plain["_target_"]
        loaded = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(SearchConfig), plain))
    except OmegaConfBaseException as error:
        key = f"{KEY}.{error.key}" if error.key else KEY
        got = OmegaConf.to_container(sweeper, resolve=False)
        typed = got.get(error.key) if isinstance(got, dict) else None
        raise RequestError(key, typed, f"a value that fits ({str(error).splitlines()[0]})") from error
    assert isinstance(loaded, SearchConfig)
    return loaded


def check_search(search: SearchConfig, config: RunConfig, swept: Sequence[str]) -> None:
    """Raise ``RequestError`` for the first thing that cannot be.

    ``config`` is the run with what is not searched, and ``swept`` the keys that are.
    """
    for name, rule in _RULES.items():
        rule.check(f"{KEY}.{name}", getattr(search, name))
    for part in ("sampler", "pruner"):
        check_target(f"{KEY}.{part}", target_of(getattr(search, part)))
        part_options(f"{KEY}.{part}", getattr(search, part))
    for name in ("storage", "study_name", "custom_search_space"):
        if getattr(search, name) == "":
            raise RequestError(f"{KEY}.{name}", "nothing", "a name, or null")
    if search.custom_search_space is not None:
        check_target(f"{KEY}.custom_search_space", search.custom_search_space)
    _check_objectives(search)
    limits = parse_limits(search.constraints)
    needed = {*search.objectives, *(limit.figure for limit in limits)}
    if "epsilon" in needed and not config.privacy.enabled and not {"trainer", "privacy"} & set(swept):
        key = "objectives" if "epsilon" in search.objectives else "constraints"
        raise RequestError(f"{KEY}.{key}", "epsilon without privacy", "trainer=dp, which has one")
    if search.pruner["_target_"] != NO_PRUNER:
        _check_pruner(search, config)
    if search.confirm:
        _check_confirmation(search, config)


def target_of(part: Any) -> Any:
    """The import path of a sampler or pruner; None where there is none."""
    return part.get("_target_") if isinstance(part, dict) else None


def part_options(place: str, part: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a sampler or pruner, without its target and the ``_partial_`` of the plug-in's grid.

    Raises:
        RequestError: one of them tells to call something.
    """
    options = {name: value for name, value in part.items() if name not in ("_target_", "_partial_")}
    refuse_instructions(place, options)
    return options


def directions(search: SearchConfig) -> list[str]:
    """Direction of each objective."""
    return [DIRECTIONS[name] for name in search.objectives]


def parse_limits(constraints: Sequence[str]) -> list[Limit]:
    """The constraints as typed, read.

    Raises ``RequestError`` for one that is no comparison of a known figure with a number.
    """
    limits = []
    for text in constraints:
        found = _LIMIT.fullmatch(text)
        if found is None:
            raise RequestError(f"{KEY}.constraints", text, "comparisons such as 'peak_bytes <= 2e9'")
        _check_figure(f"{KEY}.constraints", found[1])
        try:
            bound = float(found[3])
        except ValueError:
            bound = math.nan
        if not math.isfinite(bound):
            raise RequestError(f"{KEY}.constraints", text, "a finite number on the right")
        limits.append(Limit(figure=found[1], upper=found[2] == "<=", bound=bound))
    return limits


def ends_of(override: Override, *, whole: bool) -> Iterator[str]:
    """The overrides that try a searched key, of ``whole`` numbers or not: each choice, or both ends of its range.

    Raises:
        RequestError: the ends of an interval of whole numbers are none.
    """
    key, value = override.get_key_element(), override.value()
    if isinstance(value, IntervalSweep):
        assert value.start is not None
        assert value.end is not None
        ends = (value.start, value.end)
        if whole:
            yield from (f"{key}={end}" for end in whole_ends(key, *ends))
        else:
            yield from (f"{key}={end}" for end in ends)
    elif isinstance(value, RangeSweep) and not value.shuffle:
        listed = list(override.sweep_iterator(transformer=Transformer.encode))
        yield from (f"{key}={end}" for end in (listed[:1] + listed[-1:]))
    elif isinstance(value, ChoiceSweep | RangeSweep):
        yield from (f"{key}={item}" for item in override.sweep_iterator(transformer=Transformer.encode))
    else:
        raise RequestError(key, str(override.input_line), "a,b or range(...) or interval(...) in a search")


def whole_ends(key: str, low: float, high: float) -> tuple[int, int]:
    """The ends of an interval of whole numbers.

    Raises:
        RequestError: one of them is no whole number.
    """
    if not (float(low).is_integer() and float(high).is_integer()):
        raise RequestError(key, f"interval({low:g},{high:g})", "whole numbers, as this key holds")
    return int(low), int(high)


def is_whole(config: DictConfig, key: str) -> bool:
    """Whether ``key`` of the composed ``config`` holds whole numbers."""
    section, _, last = key.lstrip("+").rpartition(".")
    owner = OmegaConf.select(config, section) if section else config
    node = node_of(owner, last) if isinstance(owner, DictConfig) else None
    if isinstance(node, IntegerNode | UnionNode):
        return True
    value = value_of(node) if isinstance(node, AnyNode) else None
    return isinstance(value, int) and not isinstance(value, bool)


def first_options(searched: Sequence[Override], fixed: Sequence[str]) -> list[str]:
    """Of each searched group whose options have ``fixed`` keys of their own, the first option: what these fit."""
    owners = {line.lstrip("+").partition(".")[0] for line in fixed}
    groups = [override for override in searched if override.key_or_group in owners & OPEN.keys()]
    return [next(ends_of(override, whole=False)) for override in groups]


def _check_objectives(search: SearchConfig) -> None:
    if not search.objectives:
        raise RequestError(f"{KEY}.objectives", [], "at least one, such as [val_accuracy]")
    for name in search.objectives:
        _check_figure(f"{KEY}.objectives", name)
    if len(set(search.objectives)) < len(search.objectives):
        raise RequestError(f"{KEY}.objectives", search.objectives, "each of them once")
    if search.direction is None:
        return
    asked = search.direction if isinstance(search.direction, list) else [search.direction]
    if [str(item) for item in asked] != (wanted := directions(search)):
        names = ", ".join(f"{way} for {name}" for name, way in zip(search.objectives, wanted, strict=True))
        raise RequestError(f"{KEY}.direction", search.direction, f"{names}; null takes that by itself")


def _check_figure(key: str, name: str) -> None:
    if name.startswith("test_"):
        raise RequestError(
            key, name, f"{name.replace('test_', 'val_')}: figures that a choice was made by say nothing about new data"
        )
    if name not in DIRECTIONS:
        raise RequestError(key, name, f"one of {', '.join(DIRECTIONS)}", nearest=nearest(name, DIRECTIONS))


def _check_pruner(search: SearchConfig, config: RunConfig) -> None:
    got = search.pruner["_target_"].rpartition(".")[2]
    key = "hydra/sweeper/pruner"
    if len(search.objectives) > 1:
        raise RequestError(
            key, f"{got} with {len(search.objectives)} objectives", "none: early figures of several do not rank trials"
        )
    if search.objectives[0] not in EACH_EPOCH:
        raise RequestError(
            key, f"{got} with {search.objectives[0]}", f"none, or the objective {' or '.join(EACH_EPOCH)}"
        )
    check_steering(search.pruner, config)


def _check_confirmation(search: SearchConfig, config: RunConfig) -> None:
    key = f"{KEY}.confirm"
    if len(search.objectives) > 1:
        raise RequestError(key, search.confirm, f"0 with {len(search.objectives)} objectives: no trial is the best")
    if config.privacy.selection == "random_stopping":
        expected = "0 with privacy.selection=random_stopping, which covers the trials that were drawn and no others"
        raise RequestError(key, search.confirm, expected)


def check_steering(pruner: Mapping[str, Any], config: RunConfig) -> None:
    """Raise ``RequestError`` when ``pruner`` would end a private run by what its private validation data say."""
    if pruner["_target_"] != NO_PRUNER and config.privacy.enabled and config.privacy.validation == "private":
        raise RequestError(
            "hydra/sweeper/pruner",
            f"{pruner['_target_'].rpartition('.')[2]} with trainer=dp",
            "none, because choosing by validation data is not covered by the reported epsilon"
            " (privacy.validation=public declares them public)",
        )
