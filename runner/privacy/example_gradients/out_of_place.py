"""Forward passes that per-example gradients can be taken through, whatever the model writes to in place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from inspect import isfunction, signature
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from runner.errors import RunError


def out_of_place() -> AbstractContextManager[Any]:
    """The context of a forward pass whose per-example gradients are wanted, by ``torch.func.vmap`` or Opacus' hooks.

    Hooks hand out a module's output as a view that must not be written to, and ``vmap`` cannot fill a shared tensor
    with noise of its own for each example; residual networks do the one (``out += identity``, in-place activations),
    stochastic depth does the other.  Inside this context both make a new tensor instead, with the same values.
    ``vmap`` needs ``randomness="different"`` for models that drop anything.

    Raises:
        RunError: inside the context, when the model reads a tensor that it changed in place under hooks.
    """
    return _OutOfPlace()


class _OutOfPlace(TorchFunctionMode):
    """Runs what would write to its input as a function that returns a new tensor."""

    def __init__(self) -> None:
        super().__init__()
        self._stale = WeakTensorKeyDictionary()

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run ``func`` out of place where its input cannot be written to."""
        kwargs = kwargs or {}
        if self._stale and any(isinstance(a, Tensor) and a in self._stale for a in args):
            raise RunError(
                "the model reads a tensor that it changed in place, which gradient hooks cannot follow; "
                "use privacy.grad_sample=functional"
            )
        if func in _INPLACE_POSITION:
            position = _INPLACE_POSITION[func]
            args = (*args[:position], *(False for _ in args[position : position + 1]), *args[position + 1 :])
            kwargs = {key: value for key, value in kwargs.items() if key != "inplace"}
        elif func is Tensor.bernoulli_:
            return _bernoulli(*args, **kwargs)
        elif func in _ARITHMETIC and type(args[0].grad_fn).__name__ == "BackwardHookFunctionBackward":
            # ``a += b`` arrives here as ``a.add_(b)`` and binds the result to ``a``.  A bare ``a.add_(b)`` does not:
            # its ``a`` would be read again, which is refused above.
            self._stale[args[0]] = True
            func = _ARITHMETIC[func]
        return func(*args, **kwargs)


def _bernoulli(noise: Tensor, p: float = 0.5, *, generator: torch.Generator | None = None) -> Tensor:
    return torch.bernoulli(torch.full_like(noise, p), generator=generator)


_ARITHMETIC: dict[Callable[..., Any], Callable[..., Tensor]] = {
    Tensor.add_: torch.add,
    Tensor.sub_: torch.sub,
    Tensor.mul_: torch.mul,
    Tensor.div_: torch.div,
}
_INPLACE_POSITION: dict[Callable[..., Any], int] = {
    f: list(signature(f).parameters).index("inplace")
    for f in vars(F).values()
    if isfunction(f) and "inplace" in signature(f).parameters
}
