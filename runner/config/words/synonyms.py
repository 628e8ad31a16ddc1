"""Names that other tools use, and the key or option of this one for each.

The words stand in ``synonyms.yaml``: one table serves every place where a word can be wrong, be it a bare key, one
below a group, a flag, or a key in a file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from runner.config.words.instead import Instead
from runner.config.words.shell_quoting import shell_line

_TABLE = Path(__file__).with_suffix(".yaml")
_NUMBER = re.compile(r"\d+(\.\d*)?(e[+-]?\d+)?")
_SAMPLE = re.compile(r"(\S+=)\{(.*?)\}")
_SWITCH = ("true", "false", "null", "none", "yes", "no", "on", "off", "")


@dataclass(frozen=True, kw_only=True)
class Synonym:
    """A thing that has other names elsewhere."""

    words: str
    """Its names, separated by blanks."""
    key: str | None = None
    """The key of the same meaning, which takes the same value."""
    typed: list[str] = field(default_factory=list)
    """What is typed instead, where the value has another form.  What stands in braces is a sample, in whose place the
    user's value goes where it is of that kind: a number for a number, and a text for a text."""
    added: dict[str, str] = field(default_factory=dict)
    """Option of the group -> what is typed besides it, where that option takes the thing as an argument."""
    note: str = ""
    """What has to be known besides; without ``key`` and ``typed`` the reason why there is nothing to set."""

    def instead(self, value: str | None, chosen: str | None = None) -> Instead:
        """What to type where ``value`` was given for one of the words; None for no value.

        ``chosen`` is the option that is taken of the group.
        """
        if chosen in self.added:
            return Instead((_fill(self.added[chosen], value),))
        return Instead((self.key,) if self.key else tuple(self.lines(value)), self.note)

    def lines(self, value: str | None) -> list[str]:
        """The lines of ``typed``, with ``value`` where it fits; the one alone of which it is an option, if there is."""
        for line in self.typed:
            group, option = _option(line, value)
            if option is not None:
                return [_SAMPLE.sub(f"{group}={option}", line)]
        return [_fill(line, value) for line in self.typed]


@cache
def table() -> tuple[Synonym, ...]:
    """Every entry, in order."""
    return tuple(entry for entries in sections().values() for entry in entries)


@cache
def sections() -> dict[str, list[Synonym]]:
    """What the words are about -> the entries."""
    return {title: [Synonym(**entry) for entry in entries] for title, entries in _read()["words"].items()}


@cache
def options() -> dict[str, dict[str, str]]:
    """Group -> option -> what the option is called elsewhere, separated by blanks."""
    return _read()["options"]


def find_synonym(key: str) -> Synonym | None:
    """What the dotted ``key``, which does not exist here, means elsewhere; None when it is no usual word."""
    return synonym_of_value(key) or _entries().get(_plain(key.rpartition(".")[2]))


def synonym_of_value(key: str) -> Synonym | None:
    """What ``key`` means elsewhere with its group, or without one; None when only its last name counts."""
    return _entries().get(".".join(map(_plain, key.split("."))) if "." in key else f".{_plain(key)}")


def synonym_of_option(group: str, value: str, there: Iterable[str] = ()) -> str | None:
    """The option of ``group`` that ``value`` means elsewhere, or that is spelled like it but for capitals and dashes.

    None when it is neither; ``there`` are those that there are.
    """
    alike = [option for option in there if _letters(option) == _letters(value)]
    meant = [option for option, words in options().get(group, {}).items() if value.lower() in words.split()]
    return next(iter([*alike, *meant]), None)


def _read() -> Any:
    return yaml.safe_load(_TABLE.read_text(encoding="utf-8"))


@cache
def _entries() -> dict[str, Synonym]:
    return {word: entry for entry in table() for word in entry.words.split()}


def _option(line: str, value: str | None) -> tuple[str, str | None]:
    """The group whose option is the sample of ``line``, and the option that ``value`` is; None where it is none."""
    sample = _SAMPLE.search(line)
    group = sample[1].rstrip("=") if sample else ""
    if value is None or group not in options():
        return group, None
    word = value.lower()
    return group, word if word in options()[group] else synonym_of_option(group, word)


def _fill(line: str, value: str | None) -> str:
    return _SAMPLE.sub(lambda found: _filled(found[1], found[2], value), line)


def _filled(key: str, sample: str, value: str | None) -> str:
    """``key=`` with ``value`` where it is of the kind of ``sample``, and else with that."""
    if value is None or bool(_NUMBER.fullmatch(sample)) != bool(_NUMBER.fullmatch(value)) or value.lower() in _SWITCH:
        return f"{key}{sample}"
    return shell_line(f"{key}{value}")


def _letters(name: str) -> str:
    return re.sub(r"[-_ /.]", "", name.lower())


def _plain(name: str) -> str:
    """``name`` without capitals and dashes: ``maxEpochs`` and ``max-epochs`` are max_epochs."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return snake.lower().replace("-", "_").strip("_")
