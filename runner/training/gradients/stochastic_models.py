"""Whether a model draws random numbers while it trains."""

from __future__ import annotations

from torch import nn

from runner.internals.modules import has_forward_hooks
from runner.models.layer_kinds import DROPOUTS

_DRAWING = (
    *DROPOUTS,
    nn.FractionalMaxPool2d,
    nn.FractionalMaxPool3d,
    nn.MultiheadAttention,
    nn.RNNBase,
    nn.RReLU,
)
"""The layers of torch that draw, or may; what is made of them, as a Transformer is, holds one of these."""


def is_stochastic(model: nn.Module) -> bool:
    """Whether a forward pass of ``model`` may draw: for torch's own layers that is known, all others might."""
    return any(
        not type(module).__module__.startswith("torch.nn.modules.")
        or isinstance(module, _DRAWING)
        or has_forward_hooks(module)
        for module in model.modules()
    )
