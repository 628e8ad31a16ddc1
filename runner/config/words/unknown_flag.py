"""Flags that do not exist: what is typed for them here, where keys have no dashes."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, NoReturn

from runner.config.groups import CLOSED, OPEN, RECIPES, SECTIONS, yaml_key
from runner.config.schema import AugmentConfig, RunConfig
from runner.config.words.shell_quoting import shell_line
from runner.config.words.synonyms import synonym_of_option, usual
from runner.errors import RequestError, nearest

Meaning = Callable[[str, str | None], str | None]
"""A word and its value -> what is typed for them."""

_A_FILE = "--config-dir FOLDER experiment=NAME, for a recipe in FOLDER/experiment/NAME.yaml, or key=value for each line"


class KeyParser(argparse.ArgumentParser):
    """A parser of keys and a few flags, which refuses in one line and knows what is typed for the flags of others."""

    def __init__(self, *, form: str, meaning: Meaning | None = None, **options: Any) -> None:
        """``form`` is what the command takes, in short, ``meaning`` what is typed for a flag that is none of its."""
        super().__init__(allow_abbrev=False, **options)
        self._form = form
        self._meaning = meaning or in_place_of
        self._typed: list[str] = []

    def read(self, argv: Sequence[str] | None) -> argparse.Namespace:
        """What ``argv`` (null: that of the process) says.

        Raises:
            RequestError: a flag is wrong.
        """
        self._typed = list(sys.argv[1:] if argv is None else argv)
        return self.parse_intermixed_args(self._typed)

    def error(self, message: str) -> NoReturn:
        """Refuse in one line, where argparse would print its usage and leave the process."""
        raise _for_a_flag(message, self._typed, self._meaning) or RequestError("command line", message, self._form)


def flag_error(message: str, argv: Sequence[str], flags: Sequence[str]) -> RequestError:
    """The refusal of ``argv``, which Hydra's parser refused with ``message``; ``flags`` are those that there are."""
    if (found := _for_a_flag(message, argv, in_place_of)) is not None:
        return found
    if unknown := re.match(r"unrecognized arguments: (\S+)", message):
        name, equals, value = unknown[1].partition("=")
        if equals or "." in name:
            return RequestError(name, "dashes before a key", f"{name.lstrip('-')}={value or 'VALUE'}")
        return RequestError(name, "an unknown flag", "a flag that --hydra-help lists", nearest=nearest(name, flags))
    if invalid := re.match(r"argument ([^:/]+)[^:]*: invalid choice: '(.*?)' \(choose from (.*)\)", message):
        if invalid[1] == "--cfg" and invalid[2].endswith((".yaml", ".yml")):
            return RequestError("--cfg", invalid[2], _A_FILE)
        names = invalid[3].replace("'", "").split(", ")
        return RequestError(invalid[1], invalid[2], f"one of {', '.join(names)}", nearest=nearest(invalid[2], names))
    other = re.match(r"argument ([^:/]+)[^:]*: (.*)", message)
    return RequestError(other[1], other[2], "a valid flag") if other else RequestError("command line", message, "flags")


def in_place_of(word: str, value: str | None) -> str | None:
    """What to type for the flag ``word`` with ``value``; None where nobody knows."""
    given = "VALUE" if value is None else value
    if word in ("config", "config-file", "config_file", "cfg-file", "yaml"):
        return _A_FILE
    if word in (*OPEN, *CLOSED, *RECIPES):
        return shell_line(f"{word}={synonym_of_option(word, given) or given}")
    name, keys = word.replace("-", "_"), _keys()
    if name in keys:
        return shell_line(f"{name}={given}")
    if (found := usual(word)) is not None:
        rest = f" ({found.note})" if found.note else ""
        return found.expected(value) if found.key is None else shell_line(f"{found.key}={given}") + rest
    alike = [key for key in keys if key.rpartition(".")[2] == name]
    return shell_line(f"{alike[0]}={given}") if len(alike) == 1 else None


def _for_a_flag(message: str, argv: Sequence[str], meaning: Meaning) -> RequestError | None:
    unknown = re.match(r"unrecognized arguments: (-\S+)", message)
    if unknown is None:
        return None
    name, equals, text = unknown[1].partition("=")
    value = text if equals else _value_after(name, argv)
    cure = meaning(name.lstrip("-"), value)
    return None if cure is None else RequestError(name, "a flag" if value is None else value, cure)


def _value_after(flag: str, argv: Sequence[str]) -> str | None:
    """The word behind ``flag``, which argparse took for an override, where it can be its value."""
    following = [*argv, "-", "-"][list(argv).index(flag) + 1] if flag in argv else "-"
    return None if following.startswith("-") or "=" in following else following


def _keys() -> list[str]:
    """The dotted keys of the schema."""
    loose = [field.name for field in fields(RunConfig) if field.name not in {*OPEN, *CLOSED, *SECTIONS}]
    groups = {**OPEN, **CLOSED, **SECTIONS, "data.augment": AugmentConfig}
    names = [f"{group}.{yaml_key(field.name)}" for group, kind in groups.items() for field in fields(kind)]
    return [*loose, *(name for name in names if not name.endswith((".options", ".augment")))]
