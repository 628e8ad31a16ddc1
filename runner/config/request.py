"""What a command line asks for: one run, or the cells of a sweep; every one is checked before the first starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from runner.config import rules
from runner.config.compose import Composer, line_of
from runner.config.errors import RequestError
from runner.config.schema import RunConfig


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request that may start."""

    multirun: bool
    """Whether it is a sweep: by ``--multirun``, or by ``hydra.mode: MULTIRUN`` or parameters in the sweep's file."""
    cells: int | None
    """Number of runs where it is known before the first: 1, or the size of a grid; null for a search."""
    run_dir: Path | None = None
    """Folder of the one run; null for a sweep."""


def read_request(
    composer: Composer, lines: Sequence[str], *, multirun: bool, check: Callable[[RunConfig], None]
) -> Request:
    """Compose, convert and ``check`` the one run of ``lines``, or every cell of their grid.

    Of a search (any sweeper but Hydra's grid) the values are drawn later; what is fixed is checked value by value,
    and the searched keys must exist.

    Raises ``RequestError`` for the first run that cannot be; for a cell of a grid it names the cell.
    """
    overrides = composer.parse(lines)
    swept = [override for override in overrides if override.is_sweep_override()]
    config = composer.compose([line_of(o) for o in overrides if o not in swept])
    mode = config.hydra.mode
    if multirun and mode == RunMode.RUN:
        raise RequestError("hydra.mode", "RUN with --multirun", "one of the two")
    # a question from sweeps/ that lists values means a grid, whether or not its file says so
    asked = config.hydra.runtime.choices.get("sweep") is not None and bool(config.hydra.sweeper.get("params"))
    if not multirun and mode != RunMode.MULTIRUN and not asked:
        if swept:
            composer.compose(lines)
        check(composer.load(config))
        return Request(multirun=False, cells=1, run_dir=Path(config.hydra.runtime.output_dir))
    return Request(multirun=True, cells=_check_sweep(composer, overrides, config, check))


def _check_sweep(
    composer: Composer, overrides: list[Override], config: DictConfig, check: Callable[[RunConfig], None]
) -> int | None:
    launcher = config.hydra.launcher._target_
    if launcher != _path(BasicLauncher):
        raise RequestError("hydra/launcher", launcher, "basic: cells run one after another")
    for override in overrides:
        if override.is_sweep_override() and override.is_hydra_override():
            raise RequestError(override.key_or_group, line_of(override), "one value: Hydra's own keys cannot be swept")
    params = OmegaConf.to_container(config.hydra.sweeper.get("params") or OmegaConf.create({}), resolve=False)
    assert isinstance(params, dict)
    task = [override for override in overrides if not override.is_hydra_override()]
    sweep = [*composer.parse([f"{key!s}={value}" for key, value in params.items()]), *task]
    for override in sweep:
        composer.require(override, config)
    if config.hydra.sweeper._target_ != _path(BasicSweeper):
        rules.check_values(composer.load(config, number=0))
        return None
    for override in sweep:
        if override.is_sweep_override() and not override.is_discrete_sweep():
            raise RequestError(
                override.key_or_group, line_of(override), "values to list, such as a,b or range(1,4), in a grid"
            )
    fixed = [line_of(override) for override in overrides if override.is_hydra_override()]
    (cells,) = BasicSweeper.split_arguments(sweep, None)
    for number, cell in enumerate(cells):
        try:
            check(composer.load(composer.compose([*fixed, *cell]), number=number))
        except RequestError as error:
            name = " ".join(cell)
            raise RequestError(
                error.key, error.got, error.expected, nearest=error.nearest, cell=f"cell {number}: {name}"
            ) from error
    return len(cells)


def _path(kind: type) -> str:
    return f"{kind.__module__}.{kind.__name__}"
