"""``torch.func``'s gradient without torch's compiler, which it imports to tell it to keep out."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch._functorch import eager_transforms

from runner.internals.plain import plain_torch


@contextmanager
def compiler_left_out() -> Iterator[None]:
    """Within, ``torch.func.grad`` does not import ``torch._dynamo``.

    Before it calls the engine it switches compiled autograd off, and has to import it for that: 0.7 s and 100 MiB, the
    largest part of a small private run's start.  Where somebody has imported it, torch's own way is taken.
    """
    if plain_torch() or "torch._dynamo" in sys.modules:
        yield
        return
    torchs_own = eager_transforms._autograd_grad
    eager_transforms._autograd_grad = _gradients
    try:
        yield
    finally:
        eager_transforms._autograd_grad = torchs_own


def _gradients(
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    grad_outputs: Sequence[Tensor] | None = None,
    retain_graph: bool = False,
    create_graph: bool = True,
) -> tuple[Tensor, ...]:
    """What torch's function of this signature gives: of outputs that depend on nothing, zeros."""
    assert grad_outputs is None, "torch.func.grad passes none"
    roots = tuple(each for each in outputs if each.requires_grad)
    if not roots:
        return tuple(torch.zeros_like(each) for each in inputs)
    found = torch.autograd.grad(roots, inputs, retain_graph=retain_graph, create_graph=create_graph, allow_unused=True)
    return tuple(
        torch.zeros_like(each) if gradient is None else gradient for gradient, each in zip(found, inputs, strict=True)
    )
