"""What is learned, decided: weights of classes as numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from runner.errors import RequestError
from runner.planning.plan import TaskPlan

if TYPE_CHECKING:
    from runner.config.task_config import TaskConfig
    from runner.data.images import ImageData


def plan_task(config: TaskConfig, data: ImageData) -> TaskPlan:
    """The task for the classes and labels of ``data``.

    Raises:
        RequestError: there is no weight for each class, or a class without an example would need one.
    """
    return TaskPlan(
        target=config.target,
        name=config.name,
        loss=config.loss,
        focal_gamma=config.focal_gamma,
        class_weights=_class_weights(config.class_weights, data),
    )


def _class_weights(asked: str | list[float] | None, data: ImageData) -> tuple[float, ...] | None:
    """``balanced`` is n / (K n_k), as scikit-learn has it (King and Zeng 2001)."""
    if asked is None:
        return None
    if isinstance(asked, list):
        if len(asked) != len(data.classes):
            expected = f"{len(data.classes)} numbers, one for each class"
            raise RequestError("task.class_weights", f"{len(asked)} numbers", expected)
        return tuple(float(weight) for weight in asked)
    labels = data.train.labels
    counts = np.bincount(labels, minlength=len(data.classes))
    if not counts.all():
        name = data.classes[int(np.argmin(counts))]
        raise RequestError("task.class_weights", f"balanced without a training example of class {name}", "a list")
    return tuple(float(weight) for weight in len(labels) / (len(counts) * counts))
