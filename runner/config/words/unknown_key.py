"""The error for an unknown key: the nearest existing one."""

from __future__ import annotations

from collections.abc import Iterator

from omegaconf import DictConfig, OmegaConf

from runner.config import store
from runner.config.groups import OPEN
from runner.config.words.synonyms import Synonym, find_synonym, synonym_of_value
from runner.errors import RequestError, nearest
from runner.internals.omegaconf_nodes import holds_keys, node_of


def _keys(config: DictConfig, prefix: str = "") -> Iterator[str]:
    """Every dotted key of ``config``, Hydra's own apart."""
    for key in config:
        if prefix or key != "hydra":
            name = f"{prefix}{key!s}"
            yield name
            node = node_of(config, key)
            if holds_keys(node):
                yield from _keys(node, f"{name}.")


def _synonym(key: str, config: DictConfig) -> Synonym | None:
    """What ``key`` means elsewhere, unless a key that is there has the same name in another group."""
    last = key.rpartition(".")[2]
    here = [name for name in _keys(config) if name.rpartition(".")[2] == last]
    return synonym_of_value(key) if len(here) == 1 else find_synonym(key)


def _spelled_alike(key: str, config: DictConfig, word: Synonym | None) -> bool:
    """Whether ``key`` is close to a key of privacy, which ``trainer=dp`` need not be said for again.

    Not where ``word``, what it means elsewhere, is another key of privacy: target_epsilon is no sweep_epsilon.
    """
    group, _, name = key.partition(".")
    near = nearest(name, map(str, config.privacy)) if group == "privacy" else None
    lines = " ".join(word.typed) if word else ""
    return near is not None and ("privacy." not in lines or f"privacy.{near}=" in lines)


def _other_options(key: str, config: DictConfig) -> str | None:
    """Which other options of its group have ``key``, in words; None where none has it."""
    group, _, name = key.partition(".")
    if group not in OPEN:
        return None
    chosen = config.hydra.runtime.choices.get(group)
    having = [option for option, keys in store.keys_of_options(group).items() if name in keys and option != chosen]
    return (
        f"{' or '.join(f'{group}={option}' for option in having)} beside it: {group}={chosen} has no {name}"
        if (having)
        else None
    )


def nearest_key(key: str, config: DictConfig, *, cutoff: float = 0.6) -> str | None:
    """The key that ``key`` was probably meant to be: of that name in another group, or spelled alike in its own.

    ``cutoff`` is how much alike, from 0 to 1.
    """
    parent, _, last = key.rpartition(".")
    owner = OmegaConf.select(config, parent, default=None) if parent else None
    keys = list(_keys(config))
    elsewhere = [name for name in keys if name.rpartition(".")[2] == last]
    if len(elsewhere) == 1 and not parent.startswith("hydra"):
        return elsewhere[0]
    if isinstance(owner, DictConfig):
        found = nearest(last, [str(name) for name in owner], cutoff=cutoff)
        return f"{parent}.{found}" if found else None
    return parent if parent in keys else nearest(key, elsewhere or keys)


def unknown_key(key: str, got: object, config: DictConfig, groups: list[str]) -> RequestError:
    """The refusal of ``key``, which is neither in ``config`` nor one of ``groups``."""
    word = _synonym(key, config)
    if _spelled_alike(key, config, word):
        word = None
    if word is not None and (word.note or word.key is None):
        chosen = config.hydra.runtime.choices.get(key.partition(".")[0])
        return RequestError(key, got, str(word.instead(str(got), chosen)))
    if word is None and (others := _other_options(key, config)):
        return RequestError(key, got, others)
    near = nearest_key(key, config) if word is None else word.key
    parent = key.rpartition(".")[0]
    owner = OmegaConf.select(config, parent, default=None) if parent else None
    if near or parent.startswith("hydra"):
        expected = "a key that exists"
    elif isinstance(owner, DictConfig):
        expected = f"a key of {parent}: {', '.join(map(str, owner))}"
    else:
        loose = [name for name in _keys(config) if "." not in name and name not in groups]
        expected = f"one of the groups {', '.join(groups)} or of the keys {', '.join(loose)}"
    return RequestError(key, got, expected, nearest=near)
