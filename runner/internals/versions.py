"""Whether a tensor was written to: the counter that autograd keeps for its own checks."""

from __future__ import annotations

from torch import Tensor


def version_of(tensor: Tensor) -> int:
    """How often ``tensor``, or a view of its memory, was changed in place.

    The kernels of BatchNorm write to their statistics without counting.
    """
    return tensor._version
