"""Optimizers without torch's compiler, whose import is the longest wait between torch and the first step."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer

from runner.internals.plain import plain_torch

_METHODS = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
"""Methods that torch hides from its compiler (``torch._compile._disable_dynamo``), which it imports for that."""


def leave_compiler_out() -> None:
    """Let optimizers be made and used without importing ``torch._dynamo``.

    Where no compiler is, nothing has to be hidden from it; as soon as somebody has imported it, torch's own way is
    taken again.
    """
    if plain_torch():
        return
    for name in _METHODS:
        method = getattr(Optimizer, name)
        # Nothing is changed in versions of torch that do this in another way.
        hidden = getattr(method, "__wrapped__", None)
        if hidden is not None and not hasattr(hidden, "__dynamo_disable"):
            hidden.__dynamo_disable = _directly(hidden, method)


def _directly(hidden: Any, method: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        if "torch._dynamo" not in sys.modules:
            return hidden(*args, **kwargs)
        del hidden.__dynamo_disable
        return method(*args, **kwargs)

    return call
