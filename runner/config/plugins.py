"""Plug-ins: installed packages that bring options, questions and import paths of their own.

A distribution declares the entry point group ``recipe_runner.plugins``, each entry of which names a package of its own.
The package's folder ``conf/`` is searched for options as a typed ``--config-dir`` is, ``sweeps/`` holds its questions,
and a ``_target_`` may lie in it.  Nothing is imported to find that out.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import Distribution, EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

from runner.errors import RequestError

PLUGIN_GROUP = "recipe_runner.plugins"


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """A package that one entry point names."""

    name: str
    """Of the distribution, as pip knows it."""
    version: str
    package: str
    """Import path, below which targets may lie."""
    folder: Path
    options: frozenset[str]
    """Files in ``conf/``, such as ``model/mine``."""
    questions: Mapping[str, Path]
    """Name -> file in ``sweeps/``."""

    def __str__(self) -> str:
        return f"the plug-in {self.name} {self.version}"

    @property
    def conf(self) -> Path:
        """The folder with its options."""
        return self.folder / "conf"


@dataclass(frozen=True, kw_only=True)
class Installed:
    """The plug-ins that are installed."""

    plugins: tuple[Plugin, ...]
    """Those that can be used, by name."""
    broken: Mapping[str, str]
    """What the entry points of the others name -> in words, which distribution that is and what is wrong with it."""

    def bringing(self, option: str) -> list[Plugin]:
        """The plug-ins with a file for ``option``, such as ``model/mine``, or ``sweep/mine`` for a question."""
        question = option.removeprefix("sweep/") if option.startswith("sweep/") else None
        return [one for one in self.plugins if option in one.options or question in one.questions]

    def with_package(self, target: str) -> Plugin | None:
        """The plug-in in whose package the import path ``target`` lies; None where there is none."""
        return next((one for one in self.plugins if _lies_in(target, one.package)), None)

    def broken_with(self, target: str) -> str | None:
        """What is wrong with the plug-in in whose package ``target`` lies; None where nothing is known to be."""
        return next((reason for package, reason in self.broken.items() if _lies_in(target, package)), None)

    def refuse_claimed_twice(self, option: str) -> None:
        """Refuse ``option``, as of ``bringing``, where several plug-ins bring it.

        Raises:
            RequestError: names them.
        """
        if len(found := self.bringing(option)) > 1:
            group, _, name = option.rpartition("/")
            raise RequestError(group, f"{name}, which {' and '.join(map(str, found))} bring", "one of them uninstalled")


def installed_plugins() -> Installed:
    """The plug-ins on Python's present path; reading them imports none of their code."""
    return _read(tuple(sys.path))


@cache
def _read(path: tuple[str, ...]) -> Installed:
    plugins, broken = [], {}
    for entry in sorted(entry_points(group=PLUGIN_GROUP), key=lambda one: (_name(one.dist), one.name)):
        found = _plugin(entry)
        if isinstance(found, Plugin):
            plugins.append(found)
        else:
            version = "" if entry.dist is None else entry.dist.version
            broken[entry.value] = f"the plug-in {_name(entry.dist)} {version} is left out: {found}"
    return Installed(plugins=tuple(plugins), broken=broken)


def _plugin(entry: EntryPoint) -> Plugin | str:
    """What ``entry`` brings; or in words why it can bring nothing."""
    package, dist = entry.value, entry.dist
    if dist is None or not all(part.isidentifier() for part in package.split(".")):
        return f'its entry point {entry.name} = "{package}" names no package, as {entry.name} = "my_package" does'
    folder = _folder(package)
    if folder is None:
        return f"there is no package {package}, which its entry point {entry.name} names"
    if not _belongs(folder, package, dist):
        return f"{package}, which its entry point {entry.name} names, is not one of its own packages"
    options = {
        file.relative_to(folder / "conf").with_suffix("").as_posix() for file in (folder / "conf").rglob("*.yaml")
    }
    questions = {file.stem: file for file in sorted((folder / "sweeps").glob("*.yaml"))}
    if not options and not questions:
        return f"{folder} holds no options (conf/GROUP/NAME.yaml) and no questions (sweeps/NAME.yaml)"
    if misplaced := sorted(option for option in options if option.startswith("sweep/")):
        return f"{folder}/conf/{misplaced[0]}.yaml is a question, whose place is sweeps/"
    return Plugin(
        name=_name(dist),
        version=dist.version,
        package=package,
        folder=folder,
        options=frozenset(options),
        questions=questions,
    )


def _folder(package: str) -> Path | None:
    """Where ``package`` lies; nothing is imported, as it would be to find a package inside another."""
    top, *rest = package.split(".")
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):  # a module that is half loaded, say
        return None
    places = [] if spec is None else list(spec.submodule_search_locations or [])
    return next((folder for place in places if (folder := Path(place, *rest)).is_dir()), None)


def _belongs(folder: Path, package: str, dist: Distribution) -> bool:
    """Whether ``dist`` has brought the files of ``package``, rather than another distribution or Python itself."""
    inside = f"{package.replace('.', '/')}/"
    if any(file.as_posix().startswith(inside) for file in dist.files or []):
        return True
    origin = json.loads(dist.read_text("direct_url.json") or "{}")
    place = urlsplit(str(origin.get("url", "")))
    editable = place.scheme == "file" and bool(origin.get("dir_info", {}).get("editable"))
    return editable and folder.resolve().is_relative_to(Path(unquote(place.path)).resolve())


def _name(dist: Distribution | None) -> str:
    return "" if dist is None else str(dist.name)


def _lies_in(target: str, package: str) -> bool:
    return target == package or target.startswith(f"{package}.")
