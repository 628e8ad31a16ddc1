"""The text of ``--help``: groups with their options, and the most common keys."""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping

from omegaconf import DictConfig, OmegaConf

from runner.config.compose import Composer
from runner.config.groups import CLOSED, OPEN, SECTIONS
from runner.config.words.columns import two_columns
from runner.config.words.reference import keys_of, short
from runner.errors import plainly

MOST_TYPED = (
    *("data.root", "data.batch_size", "data.image_size", "data.fold"),
    *("model.weights", "trainer.epochs", "trainer.steps", "trainer.accumulation_steps", "trainer.clip_norm"),
    *("trainer.patience", "precision.amp_dtype", "optimizer.lr", "optimizer.weight_decay", "scheduler.warmup_epochs"),
    *("privacy.epsilon", "privacy.noise_multiplier", "hardware.device", "hardware.processes", "tracker.mode"),
    *("seed", "seeds", "folds", "name", "retry_failed"),
)
"""In the order in which they are shown."""

_COLUMN = 32


def help_text(composed: DictConfig, composer: Composer, commands: Mapping[str, str]) -> str:
    """The help for the request that ``composed`` is, at most 80 columns wide; ``commands`` is name -> what it does."""
    template = string.Template(composed.hydra.help.template)
    return template.substitute(
        COMMANDS="\n".join(line for name, about in commands.items() for line in two_columns(name, about, column=14)),
        GROUPS="\n".join(_groups(composed, composer)),
        KEYS="\n".join(_keys(composed)),
    )


def _groups(composed: DictConfig, composer: Composer) -> Iterator[str]:
    for group in composer.groups():
        chosen = composed.hydra.runtime.choices.get(group)
        names = [f"{name}*" if name == chosen else name for name in composer.options(group)]
        yield from two_columns(group, ", ".join(names), column=14)


def _keys(composed: DictConfig) -> Iterator[str]:
    meanings = {key.name: key.meaning for group in ("", *OPEN, *CLOSED, *SECTIONS) for key in keys_of(group)}
    for key in MOST_TYPED:
        value = plainly(OmegaConf.select(composed, key))
        yield from two_columns(f"{key}={value}", short(meanings[key]), column=_COLUMN)
