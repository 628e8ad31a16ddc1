"""The weights that are evaluated and saved: the model's own, their average, or the optimizer's."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from torch import Tensor

from runner.optim.modes import evaluation_weights, has_modes

if TYPE_CHECKING:
    from runner.training.checkpointing.checkpoint import Checkpoint
    from runner.training.parts import Parts


def eval_weights(parts: Parts) -> AbstractContextManager[None]:
    """The model holds the published weights inside this context."""
    if parts.average is not None:
        return parts.average.applied()
    return evaluation_weights(parts.optimizer, parts.parameters) if has_modes(parts.optimizer) else nullcontext()


def refuse_traces(parts: Parts) -> None:
    """Before private weights are saved or tested with, the buffers beside them must be what they were at the start.

    Raises:
        EpsilonVoid: forward passes have changed something, in any process.
    """
    if parts.key is not None:
        from runner.privacy.mechanism.private_rule import PrivateRule

        assert isinstance(parts.rule, PrivateRule)
        parts.rule.refuse_traces()


def weights_to_save(parts: Parts) -> tuple[dict[str, Tensor], dict[str, Tensor] | None]:
    """The published weights with the buffers, and beside them the model's own parameters where those differ."""
    differ = parts.average is not None or has_modes(parts.optimizer)
    weights: dict[str, Tensor] = {}
    seen: set[int] = set()
    with eval_weights(parts):
        for name, tensor in parts.model.state_dict().items():
            # cloned where the model gets its own weights back, and where one tensor has two names
            place = tensor.untyped_storage().data_ptr()
            weights[name] = (tensor.clone() if differ or place in seen else tensor).contiguous()
            seen.add(place)
    return weights, _trained(parts) if differ else None


def restore_weights(parts: Parts, checkpoint: Checkpoint) -> None:
    """Put a checkpoint's weights, and the average of a run that has one, where they were."""
    weights: dict[str, Any] = dict(checkpoint.weights)
    if parts.average is not None:
        parts.average.load([weights[name] for name in _trained(parts)])
    weights |= checkpoint.state["raw_weights"] or {}
    parts.model.load_state_dict(weights)


def _trained(parts: Parts) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in parts.model.named_parameters() if p.requires_grad}
