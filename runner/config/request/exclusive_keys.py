"""Mutually exclusive keys: the one that is typed replaces the one that is set elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from runner.config.schema import PrivacyConfig
from runner.errors import RequestError, as_typed


@dataclass(frozen=True)
class _ExclusiveKeys:
    """Two keys of which ``loser`` counts for nothing, or is refused, where ``winner`` is typed."""

    winner: str
    loser: str
    off: Any = None
    """The value by which ``loser`` has no say."""
    when: Callable[[DictConfig], bool] = lambda config: True
    """Whether they are rivals in this configuration."""
    silent: bool = False
    """Whether one of them would lose without a word: then both may not be typed."""


def _has_length(config: DictConfig) -> bool:
    return any(_value(config, f"trainer.{key}") is not None for key in ("steps", "epochs"))


_EXCLUSIVE = (
    _ExclusiveKeys("trainer.epochs", "trainer.steps", silent=True),
    _ExclusiveKeys("data.test_fraction", "data.fold", silent=True),
    _ExclusiveKeys("seeds", "comparison.until", silent=True),
    _ExclusiveKeys("privacy.noise_multiplier", "privacy.epsilon", when=_has_length),
    _ExclusiveKeys("privacy.epsilon", "privacy.noise_multiplier", when=_has_length),
    _ExclusiveKeys("trainer.effective_batch_size", "trainer.accumulation_steps"),
    # who types how a batch is split has it split no further by what a preset of the hardware says
    _ExclusiveKeys("data.batch_size", "hardware.micro_batch"),
    _ExclusiveKeys("trainer.accumulation_steps", "hardware.micro_batch"),
    _ExclusiveKeys("data.augment.random_resized_crop", "data.augment.crop_padding", off=0),
    _ExclusiveKeys("data.augment.crop_padding", "data.augment.random_resized_crop", off=False),
)
"""A key that replaces another whatever was typed (``trainer.steps``, ``data.fold``) has no line of its own."""


@dataclass(frozen=True)
class Replaced:
    """Something that gives way to what is typed."""

    line: str
    """The override that takes it out of the way; empty where there is nothing to do but to say it."""
    words: str

    @classmethod
    def value(cls, key: str, value: Any, off: Any, by: str, where: str = "is set elsewhere") -> Replaced:
        """The ``value`` of ``key`` gives way to ``by``, an override; with ``off`` it has no say."""
        text = f"{by} takes the place of {key}={as_typed(value)}, which {where}"
        return cls(line=f"{key}={as_typed(off)}", words=text)


def replaced_by(config: DictConfig, typed: Mapping[str, str]) -> list[Replaced]:
    """What in the composed ``config`` has to give way to the keys that are ``typed``, with their values as typed.

    Raises:
        RequestError: two rivals are typed, of which one would lose without a word.
    """
    found = [*_pairs(config, typed), *_whole_batch(config, typed), *_privacy_left_behind(config, typed)]
    return list({one.line: one for one in found}.values())


def exclusive_with(key: str) -> tuple[str, ...]:
    """The keys that cannot be typed beside ``key``, because one of the two would lose without a word."""
    pairs = [(one.winner, one.loser) for one in _EXCLUSIVE if one.silent]
    return tuple({winner: loser, loser: winner}[key] for winner, loser in pairs if key in (winner, loser))


def resolve_exclusive_keys(config: DictConfig | ListConfig, file: str) -> None:
    """Have what a file of whole recipes sets take the place, in ``config``, of what was set before it.

    Args:
        config: its content, which stands at the root of a configuration; changed here.
        file: its name, for people.

    Raises:
        RequestError: it sets two rivals itself.
    """
    if not isinstance(config, DictConfig):
        return
    for one in (one for one in _EXCLUSIVE if one.silent):
        if not _takes_effect(config, one.winner):
            continue
        if _takes_effect(config, one.loser):
            raise _both(one, config, place=f" in {file}")
        OmegaConf.update(config, one.loser, None, force_add=True)


def _pairs(config: DictConfig, typed: Mapping[str, str]) -> Iterator[Replaced]:
    for one in _EXCLUSIVE:
        if one.winner not in typed or not _takes_effect(config, one.winner) or not one.when(config):
            continue
        if not _takes_effect(config, one.loser):
            continue
        if one.loser in typed:
            if one.silent:
                raise _both(one, config)
            continue
        yield Replaced.value(one.loser, _value(config, one.loser), one.off, f"{one.winner}={typed[one.winner]}")


def _both(one: _ExclusiveKeys, config: DictConfig, place: str = "") -> RequestError:
    loser = f"{one.loser}={as_typed(_value(config, one.loser))}"
    got = f"{as_typed(_value(config, one.winner))} beside {loser}{place}"
    return RequestError(one.winner, got, f"one of the two: {one.loser} alone would count")


def _whole_batch(config: DictConfig, typed: Mapping[str, str]) -> Iterator[Replaced]:
    """A product that is typed by both its factors."""
    factors, whole = ("data.batch_size", "trainer.accumulation_steps"), "trainer.effective_batch_size"
    if whole in typed or not all(key in typed and isinstance(_value(config, key), int) for key in factors):
        return
    if (value := _value(config, whole)) is not None:
        by = " ".join(f"{key}={typed[key]}" for key in factors)
        yield Replaced.value(whole, value, None, by)


def _privacy_left_behind(config: DictConfig, typed: Mapping[str, str]) -> Iterator[Replaced]:
    """What a recipe says of privacy where a run without it is typed."""
    by = next((f"{group}={typed[group]}" for group in ("privacy", "trainer") if group in typed), None)
    if by is None or _value(config, "privacy.enabled"):
        return
    default = PrivacyConfig()
    for field in fields(PrivacyConfig):
        key, usual = f"privacy.{field.name}", getattr(default, field.name)
        if key not in typed and (value := _value(config, key)) != usual:
            yield Replaced.value(key, value, usual, by)


def _takes_effect(config: DictConfig, key: str) -> bool:
    value = _value(config, key)
    return bool(value) if key.startswith("data.augment.") else value is not None


def _value(config: DictConfig, key: str) -> Any:
    """The value at a dotted key; None where there is none, or none yet."""
    value = OmegaConf.select(config, key, default=None, throw_on_missing=False, throw_on_resolution_failure=False)
    return None if value == "???" else value
