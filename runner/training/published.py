"""The weights that a run evaluates and hands on: the model's own, or their average with ``trainer.ema_decay``."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from runner.training.checkpoint import Checkpoint
    from runner.training.parts import Parts


def published(parts: Parts) -> AbstractContextManager[None]:
    """The model holds the published weights inside this context."""
    return nullcontext() if parts.average is None else parts.average.applied()


def refuse_traces(parts: Parts) -> None:
    """Before private weights are saved or tested with, the buffers beside them must be what they were at the start.

    Raises:
        EpsilonVoid: forward passes have changed something, in any process.
    """
    if parts.key is not None:
        from runner.privacy.private_rule import PrivateRule

        assert isinstance(parts.rule, PrivateRule)
        parts.rule.refuse_traces()


def weights_to_save(parts: Parts) -> tuple[dict[str, Tensor], dict[str, Tensor] | None]:
    """The published weights with the buffers, and beside them the model's own parameters where those differ."""
    with published(parts):
        # cloned where the model gets its own weights back
        weights = {
            name: tensor.contiguous() if parts.average is None else tensor.clone().contiguous()
            for name, tensor in parts.model.state_dict().items()
        }
    return weights, None if parts.average is None else _trained(parts)


def take_up(parts: Parts, checkpoint: Checkpoint) -> None:
    """Put a checkpoint's weights, and the average of a run that has one, where they were."""
    weights: dict[str, Any] = dict(checkpoint.weights)
    if parts.average is not None:
        parts.average.load([weights[name] for name in _trained(parts)])
        weights |= checkpoint.state["raw_weights"]
    parts.model.load_state_dict(weights)


def _trained(parts: Parts) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in parts.model.named_parameters() if p.requires_grad}
