"""The request of a command line: one run or the cells of a sweep, all checked before the first starts."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import ChoiceSweep, Override, Quote, QuotedString
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from runner.config.compose import Composer, line_of
from runner.config.groups import OPEN
from runner.config.looks import plan_looks
from runner.config.request.cross_validation import with_folds
from runner.config.request.exclusive_keys import exclusive_with
from runner.config.request.halving import check_halving
from runner.config.request.hopeless_search import refuse_hopeless
from runner.config.request.ineffective_keys import ineffective_keys, refuse_ineffective_sweeps
from runner.config.request.presets import added_to
from runner.config.request.search_config import SWEEPER, check_search, ends_of, first_options, is_whole, load_search
from runner.config.request.swept_values import params_as_typed
from runner.config.request.until_decided import KEY, check_until, refuse_beside_seeds
from runner.config.rules import rules
from runner.config.schema import RunConfig
from runner.config.untrusted.targets import locate
from runner.errors import RequestError
from runner.internals.hydra_parts import BasicSweeper

GRID = "runner.sweeping.grid.GridSweeper"
"""Target of the sweeper whose cells are known, and checked, before the first starts."""

LAUNCHERS = {
    "runner.sweeping.launcher.ForkServerLauncher": "fork_server",
    "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher": "joblib",
    "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher": "submitit_local",
    "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher": "submitit_slurm",
}
"""Targets and options of the launchers that keep cells apart."""

CheckRun = Callable[[RunConfig], None]
"""The rules of a configuration."""

CheckFolder = Callable[[Path, RunConfig, frozenset[str]], None]
"""What is asked of the folder of a cell, by its configuration and the keys in which the cells differ."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request that may start."""

    multirun: bool
    """Whether it is a sweep: by ``--multirun``, by ``seeds``, or by its file in sweeps/."""
    cells: int | None = None
    """Number of runs where it is known before the first: 1, or the size of a grid; null for a search."""
    run_dir: Path | None = None
    """Folder of the one run; null for a sweep."""
    sweep_dir: Path | None = None
    """Folder of the sweep; null for one run."""
    fixed: frozenset[str] = frozenset()
    """Overrides that every cell has, as Hydra names them."""
    varied: frozenset[str] = frozenset()
    """Keys in which the cells differ, or that are searched."""
    seeds: tuple[int, ...] | None = None
    """Seeds of the repeats; None where nothing is repeated.  Until it is decided, those up to the first look."""
    until_decided: bool = False
    """Whether more seeds follow while the question is open: ``cells`` are those before the first look."""
    halving: bool = False
    """Whether cells are stopped early, by successive halving."""
    lines: tuple[str, ...] = ()
    """Overrides of the one run, or of a search those that say what is searched and what is fixed."""
    deferred: tuple[str, ...] = ()
    """Overrides of a sweep that only its cells have: keys of a group of which several options are asked for."""
    cells_lines: tuple[tuple[str, ...], ...] = ()
    """Overrides of each cell of a grid."""
    cells_folders: tuple[str, ...] = ()
    """Folder of each cell of a grid, from the sweep's."""
    configs: tuple[RunConfig, ...] = ()
    """Every cell of a grid, in order; the one run; of a search the configuration that its trials start from."""
    hydra: DictConfig | None = None
    """Hydra's own part of a sweep, as composed without what is swept; null for a run."""


def check_run(config: RunConfig) -> None:
    """The rules of the configuration, then those of its trainer; ``RequestError`` for the first that is broken."""
    rules.check(config)
    locate("trainer", config.trainer.target).check(config)


def read_request(
    composer: Composer,
    lines: Sequence[str],
    *,
    multirun: bool,
    check: CheckRun,
    check_folder: CheckFolder = lambda folder, config, varied: None,
) -> Request:
    """Compose, convert and check the one run of ``lines``, or every cell of their grid.

    Of a search (any sweeper but the grid) the values are drawn later; what is fixed is checked value by value, and the
    searched keys must exist.

    Raises ``RequestError`` for the first run that cannot be; for a cell of a grid it names the cell.
    """
    overrides = composer.parse(lines)
    swept = [override for override in overrides if override.is_sweep_override()]
    later = _under(swept, overrides)
    base = [line_of(o) for o in overrides if o not in swept and o not in later]
    config = composer.compose(base)
    if config.folds is not None:
        if config.hydra.sweeper._target_ != GRID:
            raise RequestError("folds", f"{config.folds} in a search", "null: cross-validate in a run of its own")
        overrides = with_folds(composer, config.folds, overrides)
    if (file := composer.hidden_question(config)) is not None:
        print(
            f"note: sweep={file.stem} is {file}, in place of the installed question of that name",
            file=sys.stderr,
        )
    mode = config.hydra.mode
    if multirun and mode == RunMode.RUN:
        raise RequestError("hydra.mode", "RUN with --multirun", "one of the two")
    # a question from sweeps/ that lists values means a grid, whether or not its file says so
    question = config.hydra.runtime.choices.get("sweep") is not None and bool(config.hydra.sweeper.get("params"))
    asked = question and mode != RunMode.RUN  # a cell of one that goes on by itself
    if not multirun and mode != RunMode.MULTIRUN and not asked and config.seeds == 1 and config.folds is None:
        if swept:
            composer.compose(lines)
        run = composer.load(config)
        folder = Path(config.hydra.runtime.output_dir)
        check(run)
        if run.retry_failed:
            raise RequestError("retry_failed", "true for a single run", "false: the same command starts it again")
        typed = (*map(line_of, overrides), *added_to(composer.parse(base), config))
        if str(config.hydra.run.dir).startswith("~"):  # Hydra would make a folder of that name
            typed += (f"hydra.run.dir={QuotedString(str(folder), Quote.double).with_quotes()}",)
        composer.notes |= dict.fromkeys(ineffective_keys((o.key_or_group for o in overrides), [run]))
        return Request(multirun=False, cells=1, run_dir=folder, lines=typed, configs=(run,))
    request = _check_sweep(composer, overrides, config, check, check_folder)
    return dataclasses.replace(request, deferred=tuple(line_of(o) for o in later if o not in swept))


def _under(swept: Sequence[Override], overrides: Sequence[Override]) -> list[Override]:
    """The keys of a group of which several options are asked for: each option has keys of its own."""
    groups = {override.key_or_group for override in swept} & OPEN.keys()
    return [o for o in overrides if "." in o.key_or_group and o.key_or_group.partition(".")[0] in groups]


def _check_sweep(
    composer: Composer,
    overrides: list[Override],
    config: DictConfig,
    check: CheckRun,
    check_folder: CheckFolder,
) -> Request:
    _check_launcher(config)
    for override in overrides:
        if override.is_sweep_override() and override.is_hydra_override():
            raise RequestError(override.key_or_group, line_of(override), "one value: Hydra's own keys cannot be swept")
    task = [override for override in overrides if not override.is_hydra_override()]
    sweep = [*_listed(composer, config, task), *task]
    until_decided = config.comparison.until == "decided"
    if until_decided and (
        listed := next((o for o in sweep if o.key_or_group == "seed" and o.is_sweep_override()), None)
    ):
        refuse_beside_seeds(listed, [override.key_or_group for override in sweep])
        composer.notes[f"{line_of(listed)} takes the place of {KEY}=decided"] = None
        sweep += composer.parse([f"{KEY}=null"])
        until_decided = False
    judged_by_cell = _under([override for override in sweep if override.is_sweep_override()], sweep)
    for override in sweep:
        if override not in judged_by_cell:
            composer.require(override, config)
    # what is typed replaces what the file says
    last = {override.key_or_group: override for override in sweep}
    varied = {key for key, override in last.items() if override.is_sweep_override()}
    fixed = frozenset(
        f"{override.get_key_element()}={override.get_value_element_as_str()}"
        for key, override in last.items()
        if key not in varied
    )
    seeds = _seeds(config, varied, until_decided=until_decided)
    # A name by the time of day is composed again for each cell: this is the one that counts.
    request = Request(multirun=True, sweep_dir=composer.sweep_dir(config))
    if config.hydra.sweeper._target_ != GRID:
        own = [line_of(override) for override in overrides if override.is_hydra_override()]
        start = _check_search(composer, last, own, config, check)
        asked = tuple(line_of(override) for override in sweep)
        return dataclasses.replace(
            request, fixed=fixed, varied=frozenset(varied), lines=asked, configs=(start,), hydra=config.hydra
        )
    for override in sweep:
        if override.is_sweep_override() and not override.is_discrete_sweep():
            raise RequestError(
                override.key_or_group, line_of(override), "values to list, such as a,b or range(1,4), in a grid"
            )
        _refuse_equal_values(override)
    own = [line_of(override) for override in overrides if override.is_hydra_override()]
    varied |= {"seed"} if seeds else set()
    beside: Any = OmegaConf.to_container(config.hydra.sweeper.beside or OmegaConf.create([]))
    for override in composer.parse([line for cell in beside for line in cell]):
        composer.require(override, config)
        varied.add(override.key_or_group)
    cells = cells_of(sweep, beside=beside, seeds=seeds)
    configs, cells_lines, folders = [], [], []
    for number, cell in enumerate(cells):
        try:
            composed = composer.compose([*own, *cell])
            cells_lines.append((*cell, *added_to(composer.parse([*own, *cell]), composed)))
            run = composer.load(composed, number=number)
            check(run)
            folders.append(Path(str(composed.hydra.sweep.subdir)).as_posix())
            if folders[-1] in folders[:-1]:
                other = folders.index(folders[-1])
                got = f"{folders[-1]} for the cells {other} and {number}"
                raise RequestError("hydra.sweep.subdir", got, "a name of each cell's own, such as ${hydra.job.num}")
            # a cell that is drawn from a grid has the number of its trial
            if run.privacy.selection == "composition":
                check_folder(Path(composed.hydra.runtime.output_dir), run, frozenset(varied))
            configs.append(run)
        except RequestError as error:
            name = " ".join(cell)
            raise RequestError(
                error.key, error.got, error.expected, nearest=error.nearest, cell=f"cell {number}: {name}"
            ) from error
    refuse_ineffective_sweeps(sorted(varied), configs)
    if until_decided:
        assert seeds is not None
        here = LAUNCHERS.get(config.hydra.launcher._target_) == "fork_server"
        check_until(configs, varied, recipes=len(cells) // len(seeds), here=here)
    halving = check_halving(config.hydra.sweeper.get("halving", False), configs, cells_lines)
    composer.notes |= dict.fromkeys(ineffective_keys((o.key_or_group for o in overrides), configs))
    added = [set(lines[len(cell) :]) for lines, cell in zip(cells_lines, cells, strict=True)]
    return dataclasses.replace(
        request,
        cells=len(cells),
        cells_lines=tuple(cells_lines),
        cells_folders=tuple(folders),
        fixed=fixed.union(*added),
        varied=frozenset(varied),
        seeds=seeds,
        until_decided=until_decided,
        halving=halving,
        configs=tuple(configs),
        hydra=config.hydra,
    )


def _listed(composer: Composer, config: DictConfig, task: Sequence[Override]) -> list[Override]:
    """What the file of a question asks about, but for what is typed in its place."""
    params: Any = OmegaConf.to_container(config.hydra.sweeper.get("params") or OmegaConf.create({}), resolve=False)
    typed = {override.key_or_group: override for override in task if override.value() is not None}
    listed = []
    for override in composer.parse(params_as_typed(params, config)):
        rival = next((key for key in exclusive_with(override.key_or_group) if key in typed), None)
        if rival is None or override.key_or_group in typed:
            listed.append(override)
        else:
            words = f"{line_of(typed[rival])} takes the place of {line_of(override)}, which the sweep asks about"
            composer.notes[words] = None
    return listed


def _refuse_equal_values(override: Override) -> None:
    """Refuse a value that is listed twice: its cells would be the same run."""
    values = override.value()
    listed = values.list if isinstance(values, ChoiceSweep) else []
    # 1 equals true, and is another value
    kinds = [(isinstance(value, bool), value) for value in (_plain(item) for item in listed)]
    if any(kind in kinds[:number] for number, kind in enumerate(kinds)):
        typed = line_of(override).partition("=")[2]
        raise RequestError(override.key_or_group, typed, "values that differ; seeds=2 repeats each cell")


def _plain(item: Any) -> Any:
    return item.text if isinstance(item, QuotedString) else item


def _check_search(
    composer: Composer, last: dict[str, Override], hydra: list[str], config: DictConfig, check: CheckRun
) -> RunConfig:
    """Check what is fixed, each searched key at the ends of its range, and the keys of the search itself.

    Returns the configuration that its trials start from.
    """
    swept = [override for override in last.values() if override.is_sweep_override()]
    fixed = [line_of(override) for override in last.values() if not override.is_sweep_override()]
    own = [*hydra, *fixed]
    run = composer.load(composer.compose([*own, *first_options(swept, fixed)]), number=0)
    rules.check_values(run)
    if config.hydra.sweeper._target_ == SWEEPER:
        if "hydra.sweep.subdir" in {line.partition("=")[0] for line in hydra}:
            raise RequestError(
                "hydra.sweep.subdir", config.hydra.sweep.subdir, "nothing: a trial's folder has its number"
            )
        check_search(load_search(config.hydra.sweeper), run, list(last))
    options = {o.key_or_group: list(ends_of(o, whole=False)) for o in swept if o.key_or_group in OPEN}
    for override in swept:
        key = override.key_or_group
        whole = is_whole(config, key)
        # each option has keys of its own
        choices = options.get(key.partition(".")[0], [""]) if key not in options else [""]
        for end in ends_of(override, whole=whole):
            for choice in choices:
                tried = [line for line in (choice, end) if line]
                try:
                    rules.check_values(composer.load(composer.compose([*own, *tried]), number=0))
                except RequestError as error:
                    raise RequestError(
                        error.key,
                        error.got,
                        error.expected,
                        nearest=error.nearest,
                        cell=f"the values searched: {' '.join(tried)}",
                    ) from error
    if not config.hydra.sweeper.get("custom_search_space"):  # which may suggest what is missing
        refuse_hopeless(composer, own, swept, check, lambda key: is_whole(config, key))
    return run


def _check_launcher(config: DictConfig) -> None:
    launcher = config.hydra.launcher
    if launcher._target_ not in LAUNCHERS:
        names = ", ".join(LAUNCHERS.values())
        raise RequestError("hydra/launcher", config.hydra.runtime.choices["hydra/launcher"], f"one of {names}")
    if LAUNCHERS[launcher._target_] == "fork_server" and not (isinstance(launcher.n_jobs, int) and launcher.n_jobs > 0):
        raise RequestError("hydra.launcher.n_jobs", launcher.n_jobs, "a whole number >= 1")


def _seeds(config: DictConfig, varied: set[str], *, until_decided: bool) -> tuple[int, ...] | None:
    """The seeds of the repeats."""
    rules.RULES["seeds"].check("seeds", config.seeds)
    if until_decided:
        if config.hydra.sweeper._target_ != GRID:
            raise RequestError(
                "comparison.until", "decided in a search", "null: a search ends by hydra.sweeper.n_trials"
            )
        most = config.comparison.max_seeds
        rules.RULES["comparison.max_seeds"].check("comparison.max_seeds", most)
        return tuple(range(config.seed, config.seed + plan_looks(most)[0]))
    if config.seeds == 1:
        return None
    if "seed" in varied:
        raise RequestError("seeds", f"{config.seeds} beside several values of seed", "one of the two")
    if config.hydra.sweeper._target_ != GRID:
        raise RequestError("seeds", f"{config.seeds} in a search", "1: repeat its best recipe in a run of its own")
    return tuple(range(config.seed, config.seed + config.seeds))


def cells_of(
    overrides: Sequence[Override], *, beside: Sequence[Sequence[str]] = (), seeds: Sequence[int] | None = None
) -> list[list[str]]:
    """The overrides of each cell of a grid, in order.

    First come all combinations of the values, then the cells that stand ``beside`` them, each with what is fixed for
    all and overrides of its own; and all of it for the first of ``seeds``, then for the next.  So a sweep that was
    stopped has compared everything on the seeds that it came to, and one that is started again with more seeds finds
    its earlier cells under their numbers.
    """
    (cells,) = BasicSweeper.split_arguments(list(overrides), None)
    swept = {override.get_key_element() for override in overrides if override.is_sweep_override()}
    common = [line for line in cells[0] if line.partition("=")[0] not in swept]
    for own in beside:
        keys = {line.partition("=")[0] for line in own}
        cells.append([*(line for line in common if line.partition("=")[0] not in keys), *own])
    if seeds is None:
        return cells
    repeated = [[line for line in cell if not line.startswith("seed=")] for cell in cells]
    return [[*cell, f"seed={seed}"] for seed in seeds for cell in repeated]
