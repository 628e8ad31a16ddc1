"""The network of a plan."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from runner.models.build import build_network

if TYPE_CHECKING:
    from torch import nn

    from runner.planning.plan import Plan

log = logging.getLogger(__name__)


def build_model(plan: Plan, *, tell: Callable[[str], None] = log.info) -> nn.Module:
    """Build the network of ``plan``, with its starting weights; new ones are drawn from torch's default generator.

    ``tell`` takes what the user should know of it.

    Raises:
        RequestError: see ``runner.models.build.build_network``.
    """
    semantic = plan.semantic
    return build_network(
        semantic.model,
        channels=semantic.data.channels,
        num_classes=semantic.data.num_classes,
        image_size=semantic.data.image_size,
        norm="group" if semantic.norm == "group" else "batch",
        tell=tell,
    )
