"""Registration with Hydra's ConfigStore: the typed root of every configuration, and the sweeps.

The root is registered under the name ``schema`` and stands first in the defaults list, so that every later file and
every override is converted to the type of its field or refused.  Sweeps are registered rather than found on a search
path because they lie in one flat folder ``sweeps/``, here and in the folder that the runner is called from.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import MISSING, Field, field, fields, make_dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from hydra.core.config_store import ConfigNode, ConfigStore
from omegaconf import DictConfig, OmegaConf

from runner.config.groups import CLOSED, OPEN, SECTIONS, yaml_key
from runner.config.plugins import installed_plugins
from runner.config.request.exclusive_keys import resolve_exclusive_keys
from runner.config.schema import RunConfig
from runner.config.untrusted.foreign_files import screen_file
from runner.config.untrusted.foreign_yaml import load_untrusted
from runner.config.untrusted.trusted_packages import own_packages
from runner.errors import RequestError
from runner.internals.omegaconf_nodes import node_of

PACKAGE = Path(__file__).resolve().parent.parent


def shipped(folder: str) -> Path:
    """``conf`` or ``sweeps`` as shipped: inside the installed package, or beside it in a checkout."""
    installed = PACKAGE / folder
    return installed if installed.is_dir() else PACKAGE.parent / folder


def whitelist() -> list[str]:
    """What Hydra may instantiate from a configuration: callbacks of the user's own packages and its own two.

    Launchers, sweepers and the handlers of logs it admits by themselves; parts of a run are not its business.
    """
    patterns = [pattern for name in own_packages() for pattern in (name, f"{name}.*")]
    return [*patterns, "hydra.experimental.callbacks.*"]


def hidden_sweeps(caller: Path, added: Iterable[Path]) -> dict[str, Path]:
    """Name -> file of the questions that stand for a shipped one, or one of a plug-in, of the same name.

    They lie in ``caller`` or in folders ``added``.
    """
    own = [caller / "sweeps", *(folder / "sweep" for folder in added)]
    known = _known_sweeps()
    found = {file.stem: file for folder in own for file in folder.glob("*.yaml") if file.stem in known}
    return {name: file for name, file in found.items() if file.resolve() != known[name].resolve()}


def sweep_files(caller: Path) -> dict[str, Path]:
    """Name -> file of every sweep.  One in ``caller``'s ``sweeps/`` hides another of the same name."""
    return _known_sweeps() | {file.stem: file for file in sorted((caller / "sweeps").glob("*.yaml"))}


def _known_sweeps() -> dict[str, Path]:
    """Name -> file of the questions of plug-ins, and of those that are shipped, which come first."""
    brought = {name: file for one in installed_plugins().plugins for name, file in one.questions.items()}
    return brought | {file.stem: file for file in sorted(shipped("sweeps").glob("*.yaml"))}


def keys_of_options(group: str) -> dict[str, list[str]]:
    """Option -> the keys in its YAML, of every option of ``group`` that is shipped."""
    return {
        file.stem: [str(key) for key in yaml.safe_load(file.read_text(encoding="utf-8"))]
        for file in sorted((shipped("conf") / group).glob("*.yaml"))
    }


def register(caller: Path) -> dict[str, RequestError]:
    """Register root and sweeps with Hydra; again is allowed, and picks up what changed in ``caller``.

    Returns name -> refusal of every sweep whose file cannot be used; those are left out, for they concern nobody who
    does not ask for them.
    """
    store = ConfigStore.instance()
    if getattr(store.repo.get("schema.yaml"), "provider", None) != "runner":
        store.store(name="schema", node=root_node(), provider="runner", replace=True)
    store.repo["sweep"] = {}
    broken = {}
    for name, file in sweep_files(caller).items():
        if file in _shipped_sweeps:
            store.repo["sweep"][f"{name}.yaml"] = _shipped_sweeps[file]
            continue
        try:
            if file.parent != caller / "sweeps" and file.parent != shipped("sweeps"):
                installed_plugins().refuse_claimed_twice(f"sweep/{name}")
            node = _read_sweep(file)
        except RequestError as error:
            broken[name] = error
        else:
            store.store(group="sweep", name=name, node=node, package="_global_", provider="runner")
            if file.parent == shipped("sweeps"):
                _shipped_sweeps[file] = store.repo["sweep"][f"{name}.yaml"]
    return broken


_shipped_sweeps: dict[Path, ConfigNode] = {}
"""Those that this process has read.  Hydra hands out copies."""


def _read_sweep(file: Path) -> DictConfig:
    try:
        node = load_untrusted(file, "sweep")
    except OSError as error:
        raise RequestError("sweep", file, f"a readable YAML file ({error})") from error
    if not isinstance(node, DictConfig):
        raise RequestError("sweep", file, "a mapping of keys to values")
    if file.parent != shipped("sweeps"):
        screen_file(node, file=str(file), group="sweep", package="_global_")
    resolve_exclusive_keys(node, str(file))
    return node


@cache
def root_node() -> DictConfig:
    """The typed root: closed groups refuse unknown keys, open groups take any and convert those they know.

    Shared, hence not to be changed: what Hydra stores and what ``OmegaConf.merge`` returns are copies.
    """
    closed = CLOSED | SECTIONS
    groups: dict[str, Any] = {name: OmegaConf.structured(_node_type(kind)) for name, kind in closed.items()}
    for name, kind in OPEN.items():
        typed = OmegaConf.structured(_node_type(kind))
        # A plain mapping whose known children keep their typed nodes: later merges convert those, and add others.
        groups[name] = DictConfig({key: node_of(typed, key) for key in typed})
    return OmegaConf.structured(_node_type(RunConfig, untyped=groups)(**groups))


def _node_type(kind: type, *, untyped: Collection[str] = ()) -> type:
    """``kind`` as it looks in YAML: ``target`` is called ``_target_``, and there is no ``options``.

    Fields that are ``untyped`` have their types from the nodes that they are given.
    """
    hints = get_type_hints(kind) | dict.fromkeys(untyped, Any)
    return make_dataclass(
        kind.__name__, [(yaml_key(f.name), hints[f.name], _default(f)) for f in fields(kind) if f.name != "options"]
    )


def _default(source: Field) -> Any:
    if source.default_factory is not MISSING:
        return field(default_factory=source.default_factory)
    return field() if source.default is MISSING else field(default=source.default)
