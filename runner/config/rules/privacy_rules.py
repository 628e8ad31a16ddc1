"""Rules of the privacy group, alone and together with other groups."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

from runner.config.schema import PrivacyConfig, RunConfig
from runner.errors import RequestError, as_typed, plainly


def _privacy_keys_need_privacy(config: RunConfig) -> None:
    """A key of ``privacy`` that does nothing would look like protection."""
    if config.privacy.enabled:
        return
    default = PrivacyConfig()
    for f in fields(PrivacyConfig):
        value = getattr(config.privacy, f.name)
        if value != getattr(default, f.name):
            raise RequestError(
                f"privacy.{f.name}", f"{as_typed(value)} without privacy", "trainer=dp, which makes the run private"
            )


def _copies_differ(config: RunConfig) -> None:
    copies, augment = config.privacy.augmentation_multiplicity, config.data.augment
    if copies > 1 and not augment.changes_pixels:
        raise RequestError(
            "privacy.augmentation_multiplicity",
            f"{copies} without augmentation",
            "1, because all copies would be equal, or a change under data.augment, such as data.augment.crop_padding=1",
        )


def _one_example_makes_an_image(config: RunConfig) -> None:
    augment = config.data.augment
    for key in ("mixup", "cutmix"):
        value = getattr(augment, key)
        if config.privacy.enabled and value:
            raise RequestError(
                f"data.augment.{key}",
                f"{value:g} with trainer=dp",
                "0: an image made of two examples puts each into two gradients, of which clipping would bound only one",
            )


def _private_images_stay_inside(config: RunConfig) -> None:
    if config.privacy.enabled and config.data.preview:
        raise RequestError("data.preview", True, "false with trainer=dp: the picture would show private images")


def _two_of_epsilon_noise_and_length(config: RunConfig) -> None:
    privacy, trainer = config.privacy, config.trainer
    both = privacy.epsilon is not None and privacy.noise_multiplier is not None
    given = [f"trainer.{key}={getattr(trainer, key):g}" for key in ("steps", "epochs") if getattr(trainer, key)]
    if both and given:
        raise RequestError(
            "privacy.noise_multiplier",
            f"{privacy.noise_multiplier:g} beside privacy.epsilon={plainly(privacy.epsilon)} and {given[0]}",
            "two of the three, because each follows from the others; trainer.epochs=null trains until epsilon is spent",
        )
    if not both and not given:
        raise RequestError(
            "trainer.epochs",
            None,
            "a number, or trainer.steps; under DP the length may follow from both privacy.epsilon and"
            " privacy.noise_multiplier",
        )


def _a_cell_fits_its_sweep(config: RunConfig) -> None:
    privacy = config.privacy
    if privacy.sweep_epsilon is not None and privacy.epsilon is not None and privacy.epsilon > privacy.sweep_epsilon:
        raise RequestError(
            "privacy.sweep_epsilon",
            privacy.sweep_epsilon,
            f"at least privacy.epsilon={plainly(privacy.epsilon)}, which one cell may spend",
        )


def refuse_outside_sweep(privacy: PrivacyConfig) -> None:
    """Refuse what only a multirun can have.

    Raises:
        RequestError: names the key.
    """
    if privacy.sweep_epsilon is not None:
        got = f"{plainly(privacy.sweep_epsilon)} in a single run"
        raise RequestError("privacy.sweep_epsilon", got, "null: it limits a multirun")
    if privacy.selection == "random_stopping":
        raise RequestError("privacy.selection", "random_stopping in a single run", "composition: it is for a multirun")


def _a_random_number_of_trials_is_asked_for(config: RunConfig) -> None:
    privacy = config.privacy
    if privacy.selection == "random_stopping":
        if privacy.unsafe_noise_seed is not None:
            raise RequestError(
                "privacy.unsafe_noise_seed",
                privacy.unsafe_noise_seed,
                "null with privacy.selection=random_stopping: each trial needs noise of its own",
            )
        return
    default = PrivacyConfig()
    for key in ("selection_trials", "selection_shape"):
        value = getattr(privacy, key)
        if value != getattr(default, key):
            raise RequestError(
                f"privacy.{key}", f"{value:g} with privacy.selection={privacy.selection}", "selection=random_stopping"
            )


def _only_the_best_leaves(config: RunConfig) -> None:
    if config.privacy.selection == "random_stopping" and config.tracker.target and config.tracker.mode == "online":
        raise RequestError(
            "tracker.mode",
            "online with privacy.selection=random_stopping",
            "offline, because nothing may be published of the trials but the best",
        )


_LEAVES_THE_MECHANISM = (
    *("model", "optimizer", "scheduler", "precision", "seed", "data.augment", "trainer.ema_decay"),
    *("privacy.max_grad_norm", "privacy.augmentation_multiplicity", "privacy.grad_sample"),
)


def may_change_mechanism(key: str) -> bool:
    """Whether two private runs that differ in ``key`` may train on other examples, or spend otherwise.

    That is: have another split, sampling rate, noise multiplier, number of updates or delta.
    """
    key = key.lstrip("+~").replace("/", ".")
    return not any(key == name or key.startswith(f"{name}.") for name in _LEAVES_THE_MECHANISM)


PRIVACY_RELATIONS: tuple[Callable[[RunConfig], None], ...] = (
    _privacy_keys_need_privacy,
    _copies_differ,
    _one_example_makes_an_image,
    _private_images_stay_inside,
    _two_of_epsilon_noise_and_length,
    _a_cell_fits_its_sweep,
    _a_random_number_of_trials_is_asked_for,
    _only_the_best_leaves,
)
"""See ``runner.config.rules.rules.RELATIONS``, which they belong to."""
