"""A backward pass without what torch does in Python before its engine is called."""

from __future__ import annotations

import torch

from runner.internals.plain import plain_torch

_RUN = torch.autograd.Variable._execution_engine.run_backward


def lean_backward(total: torch.Tensor, weight: torch.Tensor) -> None:
    """Do what ``total.backward(weight)`` does, for plain tensors.

    ``Tensor.backward`` compares the shapes of both through the symbolic shapes of torch's compiler, whose import takes
    0.3 s in the first step, and copies the context of Python's variables for it: 25 us a step, a tenth of a small
    model's update.  What the compiler makes needs that context, and so the ordinary call.

    Args:
        total: a scalar that a graph leads to.
        weight: the gradient of ``total``, a scalar too, which nobody checks.

    Raises:
        RuntimeError: no graph leads to ``total``, or it has been gone through before.
    """
    if plain_torch():
        total.backward(weight)
        return
    backward_in_sight(total, weight)


def backward_in_sight(total: torch.Tensor, weight: torch.Tensor) -> None:
    """``lean_backward`` whatever the switch says: what is called inside is seen by a ``TorchFunctionMode``.

    torch hands its own calls of a backward pass to the mode as a whole, and leaves the mode while they run; there is no
    public one that does not.
    """
    _RUN((total,), (weight,), False, False, (), allow_unreachable=True, accumulate_grad=True)
