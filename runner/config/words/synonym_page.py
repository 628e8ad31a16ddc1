"""The page of what other tools call things: ``docs/coming_from.md``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from runner.config.words.instead import Instead
from runner.config.words.synonyms import Synonym, options, sections
from runner.config.words.unknown_flag import A_FILE

_HEAD = """# Coming from other tools

What other tools call things, and what is typed here instead. `python -m runner keys --elsewhere` prints this page.

The program gives the same answers: type one of these words as a flag (`--clip_grad_norm 1.0`), as a key
(`trainer.gradient_clip_val=1`, `training.dp.target_epsilon=3`) or in a configuration file, and the error says what to
type instead, with your value in it. Capitals do not matter, dashes count as underscores, and several flags get one
answer:

```
$ python -m runner --data_dir photos --epochs 25 --lr 0.1 --mixed_precision --precision_type bf16
error: flags: got --data_dir photos --epochs 25 --lr 0.1 --mixed_precision --precision_type bf16, expected
data=image_folder data.root=photos data.image_size=224 trainer.epochs=25 optimizer.lr=0.1 trainer=mixed_precision
precision=bf16 (...)
```

A word that is missing here belongs in `runner/config/words/synonyms.yaml`, from which answers and page are made.
"""


def synonym_page(commands: Mapping[str, str]) -> str:
    """The page; ``commands`` is the name of a command -> what it is called elsewhere, separated by blanks."""
    lines = [_HEAD, "## Commands", "", *_table("Elsewhere", "python -m runner")]
    lines += [_row(words, f"`{name}`", "") for name, words in commands.items() if words]
    lines += ["", "## A file", "", *_table("Elsewhere", "Here"), _row("--config --config-file", *_answer(A_FILE))]
    for title, entries in sections().items():
        lines += ["", f"## {title}", "", *_table("Elsewhere", "Here")]
        lines += [_row(entry.words, *_answer(_shown(entry))) for entry in entries]
    lines += ["", "## Options", "", *_table("Elsewhere", "Here")]
    lines += list(_options())
    return "\n".join(lines) + "\n"


def _shown(entry: Synonym) -> Instead:
    return Instead((f"{entry.key}=...",), entry.note) if entry.key else entry.instead(None)


def _answer(answer: Instead) -> tuple[str, str]:
    return " or ".join(f"`{line}`" for line in answer.lines) or "nothing", answer.note


def _options() -> Iterator[str]:
    for group, names in options().items():
        for name, words in names.items():
            if words:
                yield _row(" ".join(f"{group}={word}" for word in words.split()), f"`{group}={name}`", "")


def _table(*headings: str) -> list[str]:
    return [f"| {' | '.join((*headings, 'To know'))} |", f"|{' --- |' * (len(headings) + 1)}"]


def _row(words: str, here: str, note: str) -> str:
    names = ", ".join(f"`{word.removeprefix('.')}`" for word in words.split())
    return f"| {names} | {here} | {note} |"
