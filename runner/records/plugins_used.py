"""Which plug-ins a run leans on, as its record keeps them, and whether they are here when the run is used again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from runner.config.groups import CLOSED, OPEN
from runner.config.plugins import Plugin, installed_plugins
from runner.config.request.hydra_record import read_hydra_record
from runner.config.schema import RunConfig
from runner.config.store import shipped, sweep_files
from runner.errors import RequestError, RunError
from runner.records.printable import printable
from runner.records.run_file import RUN_FILE, read_run


def plugins_used(config: RunConfig, run_dir: Path | None = None) -> dict[str, str]:
    """Package -> distribution and version of the plug-ins that ``config`` leans on: ``{"my_parts": "my-parts 0.3"}``.

    Those are where a target of ``config`` lies and, where ``run_dir`` is the folder that Hydra has begun a run in,
    those whose options or question were chosen for it.
    """
    plugins = installed_plugins()
    found = [plugin for target in targets_of(config) if (plugin := plugins.with_package(target)) is not None]
    if plugins.plugins and run_dir is not None:
        begun = read_hydra_record(run_dir)
        found += [
            plugin
            for group, option in begun.choices.items()
            for plugin in plugins.bringing(f"{group}/{option}")
            if _counts(plugin, str(group), str(option), begun.caller or Path.cwd())
        ]
    return {one.package: f"{one.name} {one.version}" for one in plugins.plugins if one in found}


def require_plugins(folder: Path | None, key: str, config: RunConfig | None = None) -> None:
    """Refuse to use the run in ``folder`` without the plug-ins of its record.

    Args:
        folder: of the run, if there is one; one without a record has nothing to say.
        key: that named it.
        config: its configuration, where what its targets lie in will do: to use its model, say.

    Raises:
        RequestError: names the package that is missing.
    """
    try:
        recorded = read_run(folder).environment.get("plugins") if folder and (folder / RUN_FILE).is_file() else None
    except RunError:  # told by who needs the rest of it
        return
    if not isinstance(recorded, Mapping):
        return
    installed = installed_plugins()
    for package, dist in recorded.items():
        if any(plugin.package == package for plugin in installed.plugins):
            continue
        if config is not None and not any(f"{target}.".startswith(f"{package}.") for target in targets_of(config)):
            continue
        got = printable(f"{folder} (made with the plug-in {dist}, which is not installed)")
        raise RequestError(key, got, installed.broken.get(package, "that package, or another run"))


def _counts(plugin: Plugin, group: str, option: str, caller: Path) -> bool:
    """Whether it is the file of ``plugin`` that an option stands for."""
    if group == "sweep":
        return sweep_files(caller).get(option) == plugin.questions.get(option)
    return not (shipped("conf") / group / f"{option}.yaml").is_file()


def targets_of(config: RunConfig) -> list[str]:
    """The import paths that ``config`` names."""
    parts = (getattr(config, group) for group in (*OPEN, *CLOSED))
    return [target for part in parts if isinstance(target := getattr(part, "target", None), str)]
