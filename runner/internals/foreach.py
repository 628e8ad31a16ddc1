"""One kernel for many tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from runner.internals.plain import plain_torch


def zero_(tensors: Sequence[Tensor]) -> None:
    """Set all elements of ``tensors`` to 0, in place."""
    if plain_torch():
        for tensor in tensors:
            tensor.zero_()
    else:
        torch._foreach_zero_(list(tensors))
