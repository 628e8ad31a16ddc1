"""Gradient checkpointing: blocks whose activations are recomputed in the backward pass.

Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost", section 4: of a chain of blocks only the borders are
kept, and one block at a time has its activations.  The second pass does what the first did: it draws the same random
numbers, runs in the same precision, and updates copies of the buffers, such as BatchNorm's statistics, which are thrown
away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from runner.errors import RequestError
from runner.models.scratch_buffers import scratch_buffers

_CHAINS = (nn.Sequential, nn.ModuleList)


def recompute_blocks(model: nn.Module, *, name: str, forward: Callable[[], AbstractContextManager[Any]]) -> None:
    """Make ``model`` compute its blocks again in the backward pass; its names and its numbers stay.

    Args:
        model: changed in place.
        name: for the refusal.
        forward: the context in which the model runs, which the second pass enters again.

    Raises:
        RequestError: the model is not made of blocks.
    """
    found = blocks(model)
    if not found:
        raise RequestError(
            "model.gradient_checkpointing",
            f"true for {name}, which is not made of blocks",
            "false, or a model such as resnet18, efficientnet_b0 or vit_b_16",
        )
    for block in found:
        block.forward = partial(_forward, block, block.forward, forward)


def blocks(model: nn.Module) -> list[nn.Module]:
    """The outermost links of the model's chains that are more than a layer or a chain."""
    found: list[nn.Module] = []
    for child in model.children():
        if isinstance(model, _CHAINS) and next(child.children(), None) is not None and not isinstance(child, _CHAINS):
            found.append(child)
        else:
            found += blocks(child)
    return found


def _forward(
    block: nn.Module,
    own: Callable[..., Any],
    forward: Callable[[], AbstractContextManager[Any]],
    *args: Any,
    **kwargs: Any,
) -> Any:
    if not (block.training and torch.is_grad_enabled()):
        return own(*args, **kwargs)
    return checkpoint(
        own, *args, use_reentrant=False, context_fn=lambda: (nullcontext(), _again(block, forward)), **kwargs
    )


@contextmanager
def _again(block: nn.Module, forward: Callable[[], AbstractContextManager[Any]]) -> Iterator[None]:
    with scratch_buffers(block), forward():
        yield
