"""The error for an unknown flag: the key to type instead."""

from __future__ import annotations

from dataclasses import fields

from runner.config.groups import CLOSED, OPEN, RECIPES, SECTIONS, yaml_key
from runner.config.schema import AugmentConfig, RunConfig
from runner.config.words.instead import Instead
from runner.config.words.shell_quoting import shell_line
from runner.config.words.synonyms import synonym_of_option, usual

A_FILE = Instead(
    ("--config-dir FOLDER experiment=NAME",),
    "for a recipe in FOLDER/experiment/NAME.yaml; or key=value for each line of the file",
)


def in_place_of(word: str, value: str | None) -> Instead | None:
    """What to type for the flag ``word`` with ``value``; None where nobody knows."""
    given = "VALUE" if value is None else value
    if word in ("config", "config-file", "config_file", "cfg-file", "yaml"):
        return A_FILE
    if word in (*OPEN, *CLOSED, *RECIPES):
        return Instead((shell_line(f"{word}={synonym_of_option(word, given) or given}"),))
    name, keys = word.replace("-", "_"), _keys()
    if name in keys:
        return Instead((shell_line(f"{name}={given}"),))
    if (found := usual(word)) is not None:
        return found.instead(value) if found.key is None else Instead((shell_line(f"{found.key}={given}"),), found.note)
    alike = [key for key in keys if key.rpartition(".")[2] == name]
    return Instead((shell_line(f"{alike[0]}={given}"),)) if len(alike) == 1 else None


def _keys() -> list[str]:
    """The dotted keys of the schema."""
    loose = [field.name for field in fields(RunConfig) if field.name not in {*OPEN, *CLOSED, *SECTIONS}]
    groups = {**OPEN, **CLOSED, **SECTIONS, "data.augment": AugmentConfig}
    names = [f"{group}.{yaml_key(field.name)}" for group, kind in groups.items() for field in fields(kind)]
    return [*loose, *(name for name in names if not name.endswith((".options", ".augment")))]
