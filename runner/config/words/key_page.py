"""The page of all keys, as Markdown, from the schema, its rules and the options' own files."""

from __future__ import annotations

from collections.abc import Iterable

from runner.config.groups import CLOSED, OPEN, RECIPES, SECTIONS
from runner.config.words.reference import Key, default_options, keys_of, options_of

_TITLE = """\
# All keys

Made by `python -m runner keys > docs/keys.md`; a test holds this page to the schema. `python -m runner keys WORD`
prints the rows that have a word, or all of a group such as `optimizer`. `python -m runner --cfg job`, with your own
words behind it, says which value each key has then, and `--help` lists the keys that are typed most. The default is
that of the schema; an option, such as `optimizer=adamw`, can have another, which stands in the table of the options.
`null` means that a key is not set. What other tools call these keys is known and answered with the key:
[coming_from.md](coming_from.md) is the table.
"""


def key_page() -> str:
    """The page."""
    lines = [_TITLE, "## Keys of no group", "", *_table(keys_of(""))]
    for group in (*OPEN, *CLOSED, *SECTIONS):
        lines += [f"## `{group}`", "", *_table(keys_of(group))]
        if group == "data":
            lines += ["### `data.augment`", "", *_table(keys_of("data.augment"))]
        if group not in SECTIONS:
            lines += [f"### Options of `{group}`", "", *_options(group)]
    for group in RECIPES:
        lines += [f"## Options of `{group}`", "", *_options(group)]
    return "\n".join(lines).rstrip() + "\n"


def rows_with(word: str) -> str:
    """The part of the page that is on ``word``: the tables of the group of that name, and each other row that has it.

    Empty where none has.
    """
    found: list[str] = []
    heading: list[str] = []
    head: list[str] = []
    before, named = "", False
    for line in key_page().splitlines():
        if line.startswith("#"):
            heading, named = ["", line], f"`{word}`" in line
        elif line.startswith("|---"):
            head = ["", before, line]
        elif line.startswith("| `") and (named or word.lower() in line.lower()):
            found += [*heading, *head, line]
            heading, head = [], []
        before = line
    return "\n".join(found).lstrip() + "\n" if found else ""


def _table(keys: Iterable[Key]) -> list[str]:
    head = ["| key | type | default | meaning |", "|---|---|---|---|"]
    rows = [
        f"| `{key.name}` | {_cell(key.kind)} | {'' if key.default == 'nothing' else f'`{_cell(key.default)}`'} |"
        f" {_cell(key.meaning)} |"
        for key in keys
    ]
    return [*head, *rows, ""]


def _options(group: str) -> list[str]:
    options, chosen = options_of(group), default_options().get(group)
    lines = ["| option | what it is | it sets |", "|---|---|---|"]
    for option in options:
        name = f"`{group}={option.name}`" + (" (default)" if option.name == chosen else "")
        lines.append(f"| {name} | {_cell(option.meaning)} | {_cell(', '.join(f'`{line}`' for line in option.sets))} |")
    having: dict[Key, list[str]] = {}
    for option in options:
        for key in option.keys:
            having.setdefault(key, []).append(option.name)
    if having:
        lines += ["", f"| key of some options | `{group}=` | type | default | meaning |", "|---|---|---|---|---|"]
    for key, names in sorted(having.items(), key=lambda pair: pair[0].name):
        options_named = ", ".join(f"`{name}`" for name in names)
        lines.append(
            f"| `{key.name}` | {options_named} | {_cell(key.kind)} | `{_cell(key.default)}` | {_cell(key.meaning)} |"
        )
    return [*lines, ""]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
