"""The allow-list of import paths that a configuration may name, for each group, and their lookup.

A configuration may come from a stranger, and a name such as ``torch.optim.optimizer.torch.hub.load`` begins like an
optimizer.  So it is the object that decides: it has to be found in one step in a module under one of its group's roots,
to be defined there, not imported from somewhere else, and to be of the group's kind.
"""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from runner.config.plugins import PLUGIN_GROUP, installed_plugins
from runner.config.untrusted.trusted_packages import TRUSTED_VARIABLE, allow_working_folder, own_packages
from runner.config.untrusted.user_code import with_place
from runner.errors import RequestError, nearest


@dataclass(frozen=True, kw_only=True)
class TargetKind:
    """What the ``_target_`` of a group may be."""

    what: str
    """In words."""
    roots: tuple[str, ...]
    """Modules and packages in and below which it is defined; the user's own and those of plug-ins come on top."""
    base: str | None
    """``module:name`` of the class that it is, or makes; a protocol counts by its methods.  None for any function."""
    functions: bool
    """Whether a function that makes one will do."""


KINDS: dict[str, TargetKind] = {
    "data": TargetKind(
        what="a data source",
        roots=("runner.data", "runner.audit.canaries"),
        base="runner.data.images:Decoded",
        functions=True,
    ),
    "model": TargetKind(what="a model factory", roots=("runner.models",), base="torch.nn:Module", functions=True),
    "optimizer": TargetKind(
        what="an optimizer class",
        roots=("torch.optim", "timm.optim", "runner.optim"),
        base="torch.optim:Optimizer",
        functions=False,
    ),
    "scheduler": TargetKind(
        what="a schedule", roots=("runner.optim.schedules",), base="runner.optim.schedules:Schedule", functions=True
    ),
    "task": TargetKind(what="a task class", roots=("runner.tasks",), base="runner.tasks.task:Task", functions=False),
    "task.loss": TargetKind(what="a loss", roots=(), base=None, functions=True),
    "trainer": TargetKind(
        what="a trainer class",
        roots=("runner.training.trainers",),
        base="runner.training.trainers:StandardTrainer",
        functions=False,
    ),
    "tracker": TargetKind(
        what="a tracker",
        roots=("runner.records.wandb_sink", "runner.records.tensorboard_sink"),
        base="runner.records.sink:Sink",
        functions=False,
    ),
    "hydra.sweeper.sampler": TargetKind(
        what="a sampler",
        roots=("optuna.samplers", "hydra_plugins.hydra_optuna_sweeper"),
        base="optuna.samplers:BaseSampler",
        functions=True,
    ),
    "hydra.sweeper.pruner": TargetKind(
        what="a pruner", roots=("optuna.pruners",), base="optuna.pruners:BasePruner", functions=False
    ),
    "hydra.sweeper.custom_search_space": TargetKind(what="a function", roots=(), base=None, functions=True),
}
"""Place of a target in the configuration, without ``_target_`` -> what it may be."""


def check_target(place: str, target: Any) -> None:
    """Refuse a ``target`` at ``place`` (see ``KINDS``) that lies under none of its roots; nothing is imported.

    Raises:
        RequestError: names the roots.
    """
    if not isinstance(target, str) or not _allowed(place, target):
        roots = ", ".join(_roots(place))
        under = f"an import path under {roots}" if roots else "null"
        raise RequestError(_key(place), target, f"{under}; {_how_to_allow(target)}")


def locate(place: str, target: str, *, among: Iterable[str] = ()) -> Any:
    """The class or function that ``target`` names, of the kind that ``place`` asks for.

    Args:
        place: of the target in the configuration, a key of ``KINDS``.
        target: the import path.
        among: names of which the user may have meant one.

    Raises:
        RequestError: there is no such thing, or it is not one that may be named there.
    """
    check_target(place, target)
    kind = KINDS[place]
    expected = f"the import path of {kind.what}"
    module, _, name = target.rpartition(".")
    # __main__ is a program, and __init__ would be run a second time
    if any(part.startswith("__") for part in module.split(".")[1:]):
        raise RequestError(_key(place), target, f"{expected} in a module without two underscores")
    if _below(target, own_packages()):
        allow_working_folder()
    if _below(target, ("timm",)) and find_spec("timm") is None:
        raise RequestError(
            _key(place), f"{target} (not installed)", "an installed timm: pip install recipe-runner[timm]"
        )
    plugin = None if _below(target, kind.roots) else installed_plugins().with_package(target)
    try:
        found = getattr(import_module(module), name)
    except Exception as error:  # a module may end in any, its author's mistakes among them
        near, reason = nearest(name, among), " ".join(str(error).split()) or type(error).__name__
        got = target if plugin is None else f"{target} of {plugin}"
        raise RequestError(_key(place), got, f"{expected} ({with_place(reason, error)})", nearest=near) from error
    if not callable(found):
        raise RequestError(_key(place), f"{target}, which cannot be called", expected)
    if not (inspect.isclass(found) or inspect.isfunction(found)):
        raise RequestError(_key(place), f"{target}, which is neither a class nor a function", expected)
    _check_origin(place, target, found)
    if kind.base is not None and not _is_kind(found, kind, target):
        raise RequestError(_key(place), f"{target}, which is none", f"{expected}, {_described(kind)}")
    return found


def instructions(value: Any, path: str = "") -> Iterator[str]:
    """The dotted keys in ``value``, at any depth, that would have Hydra call something: ``_target_`` and the like."""
    if isinstance(value, dict):
        for key, item in value.items():
            name = f"{path}.{key}".lstrip(".")
            if str(key).startswith("_") and str(key).endswith("_"):
                yield name
            yield from instructions(item, name)
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from instructions(item, f"{path}[{number}]")


def refuse_instructions(place: str, value: Any) -> None:
    """Refuse a value that tells to call something where plain values are wanted.

    Raises:
        RequestError: names the key.
    """
    for key in instructions(value, place):
        raise RequestError(key, "a key that calls something", "plain values: only a group's own _target_ is called")


def _check_origin(place: str, target: str, found: Any) -> None:
    name = target.rpartition(".")[2]
    if name.startswith("_"):
        raise RequestError(_key(place), target, f"the import path of {KINDS[place].what} without an underscore")
    home = f"{found.__module__}.{found.__qualname__}"
    if not _allowed(place, home):
        defined = f"{KINDS[place].what} defined under {', '.join(_roots(place))}"
        raise RequestError(_key(place), f"{target}, which is {home}", f"{defined}; {_how_to_allow(home)}")


def _roots(place: str) -> tuple[str, ...]:
    """Everything in and below which a target at ``place`` may be defined."""
    return (*KINDS[place].roots, *own_packages(), *(plugin.package for plugin in installed_plugins().plugins))


def _allowed(place: str, name: str) -> bool:
    """Whether the import path ``name`` lies under a root of ``place``; plug-ins are looked for where no other is."""
    return _below(name, (*KINDS[place].roots, *own_packages())) or installed_plugins().with_package(name) is not None


def _how_to_allow(target: Any) -> str:
    """What would allow ``target``, as it is typed.

    Python's own modules and the packages of the roots are not proposed as a whole: more than parts of a run lies there.
    """
    top, _, rest = str(target).partition(".")
    if isinstance(target, str) and (reason := installed_plugins().broken_with(target)) is not None:
        return reason
    ours = {root.partition(".")[0] for kind in KINDS.values() for root in kind.roots}
    if not rest or not top.isidentifier() or top in ours or top in sys.stdlib_module_names:
        return f"the variable {TRUSTED_VARIABLE} adds others"
    allowed = ",".join((*own_packages(), top))
    return f"{TRUSTED_VARIABLE}={allowed} in the environment, or the entry point {PLUGIN_GROUP} of a package, allows it"


def _is_kind(found: Any, kind: TargetKind, target: str) -> bool:
    assert kind.base is not None
    module, _, name = kind.base.partition(":")
    base = getattr(import_module(module), name)
    if inspect.isclass(found):
        return _conforms(found, base)
    if not kind.functions:
        return False
    try:
        made = typing.get_type_hints(found).get("return")
    except NameError:  # a name for type checkers alone
        made = None
    if made is None:
        # the user's own need not say it; of what comes with the program, most functions are something else
        return not _below(target, kind.roots)
    return inspect.isclass(made) and _conforms(made, base)


def _conforms(found: type, base: Any) -> bool:
    if typing.Protocol not in base.__bases__:
        return issubclass(found, base)
    # what a property promises may be set on the object alone
    methods = [name for name, member in vars(base).items() if inspect.isfunction(member) and not name.startswith("_")]
    return all(callable(getattr(found, name, None)) for name in methods)


def _described(kind: TargetKind) -> str:
    assert kind.base is not None
    returned = ", or a function that returns one by its annotation" if kind.functions else ""
    return f"a class like {kind.base.replace(':', '.')}{returned}"


def _below(name: str, roots: Iterable[str]) -> bool:
    return any(name == root or name.startswith(f"{root}.") for root in roots)


def _key(place: str) -> str:
    if place == "task.loss":
        return place
    if place.startswith("hydra."):
        return place if place.endswith("custom_search_space") else place.replace(".", "/")
    return f"{place}._target_"
