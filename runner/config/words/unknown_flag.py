"""The error for an unknown flag: the key to type instead."""

from __future__ import annotations

from dataclasses import fields

from runner.config.groups import CLOSED, OPEN, RECIPES, SECTIONS, yaml_key
from runner.config.schema import AugmentConfig, RunConfig
from runner.config.words.instead import Instead
from runner.config.words.shell_quoting import shell_line
from runner.config.words.synonyms import find_synonym, synonym_of_option

A_FILE = Instead(
    ("--config-dir FOLDER experiment=NAME",),
    "for a recipe in FOLDER/experiment/NAME.yaml; or key=value for each line of the file",
)


def in_place_of(word: str, value: str | None) -> Instead | None:
    """What to type for the flag ``word`` with ``value``; None where nobody knows."""
    given = "VALUE" if value is None else value
    switch = "true" if value is None else value
    if word in ("config", "config-file", "config_file", "cfg-file", "yaml"):
        return A_FILE
    if word in (*OPEN, *CLOSED, *RECIPES):
        return Instead((shell_line(f"{word}={synonym_of_option(word, given) or given}"),))
    name, keys = word.replace("-", "_"), _keys()
    key, note = (name, "") if name in keys else (None, "")
    if key is None and (found := find_synonym(word)) is not None:
        if found.key is None:
            return found.instead(value)
        key, note = found.key, found.note
    if key is None:
        alike = [one for one in keys if one.rpartition(".")[2] == name]
        key = alike[0] if len(alike) == 1 else None
    if key is None:
        return None
    line = shell_line(f"{key}={switch if keys.get(key) else given}")
    return Instead((f"trainer=dp {line}" if key.startswith("privacy.") else line,), note)


def _keys() -> dict[str, bool]:
    """The dotted keys of the schema, and whether true is a value of theirs."""
    groups = {"": RunConfig, **OPEN, **CLOSED, **SECTIONS, "data.augment": AugmentConfig}
    kinds = {
        f"{group}.{yaml_key(field.name)}".lstrip("."): str(field.type).startswith("bool")
        for group, kind in groups.items()
        for field in fields(kind)
    }
    no_key = {*OPEN, *CLOSED, *SECTIONS}
    return {
        key: kind for key, kind in kinds.items() if key not in no_key and not key.endswith((".options", ".augment"))
    }
