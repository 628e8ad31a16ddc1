"""A task without a run around it."""

from types import SimpleNamespace

import torch

from runner.planning.plan import TaskPlan
from runner.tasks.task import build_task


def plain_task(*, label_smoothing=0.0, **settings):
    """The task of a plan with these ``settings`` of ``TaskPlan``, on the CPU."""
    semantic = SimpleNamespace(label_smoothing=label_smoothing, task=TaskPlan(**settings))
    return build_task(semantic, torch.device("cpu"))
