"""Rules of the task group, alone and together with other groups."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from runner.config.schema import RunConfig
from runner.config.task_config import TaskConfig
from runner.config.untrusted.targets import check_target
from runner.errors import RequestError, as_typed, nearest

LOSSES = ("cross_entropy", "focal")
"""Those that have a name; any other is an import path."""


@dataclass(frozen=True)
class Loss:
    """One of ``LOSSES``, or an import path."""

    def check(self, key: str, value: Any) -> None:
        """Raises ``RequestError`` when ``value`` is neither."""
        if value in LOSSES:
            return
        if "." not in value:
            expected = f"one of {', '.join(LOSSES)}, or the import path of a function"
            raise RequestError(key, value, expected, nearest=nearest(value, LOSSES))
        check_target("task.loss", value)

    @property
    def kind(self) -> str:
        """In words."""
        return f"{', '.join(LOSSES)}, or an import path"


def _gamma_is_of_focal(config: RunConfig) -> None:
    task = config.task
    if task.loss != "focal" and task.focal_gamma != TaskConfig.focal_gamma:
        got = f"{task.focal_gamma:g} with task.loss={task.loss}"
        raise RequestError("task.focal_gamma", got, "task.loss=focal, which alone has it")


def _smoothing_is_of_cross_entropy(config: RunConfig) -> None:
    smoothing, loss = config.trainer.label_smoothing, config.task.loss
    if smoothing and loss != "cross_entropy":
        expected = "0, because only task.loss=cross_entropy has a target to smooth"
        raise RequestError("trainer.label_smoothing", f"{smoothing:g} with task.loss={loss}", expected)


def _weights_are_of_a_loss_that_has_them(config: RunConfig) -> None:
    task = config.task
    if task.class_weights is not None and task.loss not in LOSSES:
        expected = "null: a loss of your own weights its classes itself"
        raise RequestError("task.class_weights", f"{as_typed(task.class_weights)} with task.loss={task.loss}", expected)


def _private_weights_are_public(config: RunConfig) -> None:
    if config.privacy.enabled and config.task.class_weights == "balanced":
        raise RequestError(
            "task.class_weights",
            "balanced with trainer=dp, which would count the private labels of each class without noise",
            "null, or a list of numbers that do not come from the data: clipping bounds what they multiply",
        )


def _examples_are_balanced_once(config: RunConfig) -> None:
    if config.data.sampler != "balanced":
        return
    if config.privacy.enabled:
        raise RequestError(
            "data.sampler",
            "balanced with trainer=dp",
            "shuffle: the draws would follow the private labels, and no accountant here knows their amplification",
        )
    if config.task.class_weights == "balanced":
        raise RequestError(
            "task.class_weights", "balanced with data.sampler=balanced", "one of the two: each evens out the classes"
        )


TASK_RELATIONS: tuple[Callable[[RunConfig], None], ...] = (
    _gamma_is_of_focal,
    _smoothing_is_of_cross_entropy,
    _weights_are_of_a_loss_that_has_them,
    _private_weights_are_public,
    _examples_are_balanced_once,
)
