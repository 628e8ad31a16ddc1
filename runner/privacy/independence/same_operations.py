"""Whether a model computes in 16 bits what it computes in float32, but for rounding."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import zip_longest
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from runner.internals.backward import backward_in_sight
from runner.privacy.example_gradients.low_precision import normalisations, norms_in_float32
from runner.privacy.example_gradients.per_example import Forward, trainable
from runner.privacy.independence.batch_mixing import Batch

_CASTS = frozenset({"to", "float", "half", "bfloat16", "type", "type_as", "contiguous"})
"""Changes of type, which a model may make in one precision and not in the other."""


class _Operation(NamedTuple):
    """One call of a function of torch."""

    name: str
    plain: tuple[Any, ...]
    """Its arguments but for types and the values of tensors."""
    given: tuple[Tensor, ...]
    """Tensors that no recorded function has made: weights, buffers, images, and whatever else the model holds."""

    def equals(self, other: _Operation) -> bool:
        """The same function of the same."""
        return (
            self.name == other.name
            and self.plain == other.plain
            and len(self.given) == len(other.given)
            and all(map(_same, self.given, other.given))
        )


def other_operation(model: nn.Module, batch: Batch, forward: Forward, loss: Callable[..., Tensor]) -> str | None:
    """The first operation of a pass through ``model`` in ``forward`` that one in full precision does not make.

    Both are recorded, there and back, as calls of torch's functions with all arguments but types.  Where they are the
    same calls, a batch is worked on in 16 bits as in float32, up to rounding: what comparisons in float32 have shown of
    its size and its order holds there too.  16-bit kernels round so much that a comparison in 16 bits shows little.

    Args:
        model: in training mode; its gradients are left as they are.
        batch: what it is given.
        forward: the context of the run's forward pass.
        loss: from logits [n, classes] and labels [n], one loss each.

    Returns:
        Its name; None where all are the same.
    """
    with norms_in_float32(normalisations(model)):
        low, full = (_operations(model, batch, each, loss) for each in (forward, nullcontext))
    for one, other in zip_longest(low, full):
        if one is None or other is None or not one.equals(other):
            return (one or other).name  # type: ignore[union-attr]
    return None


def _operations(model: nn.Module, batch: Batch, forward: Forward, loss: Callable[..., Tensor]) -> list[_Operation]:
    there, back = _Recording(), _Recording(values=False)
    parameters = list(trainable(model).values())
    with batch.drawn_in(model), forward(), there:
        losses = loss(model(batch.images), batch.labels.repeat_interleave(batch.copies))
    total = losses.sum()
    weight, kept = torch.ones_like(total), [parameter.grad for parameter in parameters]
    try:
        # not torch.autograd.grad, which keeps what is called inside from being recorded
        with back:
            backward_in_sight(total, weight)
    finally:
        for parameter, gradient in zip(parameters, kept, strict=True):
            parameter.grad = gradient
    return there.operations + back.operations


class _Recording(TorchFunctionMode):
    """Notes what is called inside."""

    def __init__(self, *, values: bool = True) -> None:
        """``values`` says whether tensors that no recorded function made must be the same: gradients are not.

        Going back, the project's own kernels of 16 bits (``cpu_float16.py``) are left out, as torch's are.
        """
        super().__init__()
        self.operations: list[_Operation] = []
        self._values = values
        self._made: dict[int, weakref.ref[Tensor]] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run ``func`` and note it."""
        name = getattr(func, "__name__", str(func))
        given: list[Tensor] = []
        # properties such as x.dtype compute nothing
        if name not in _CASTS and name != "__get__" and (self._values or not _called_by_the_project()):
            plain = self._plain((args, kwargs or {}), given)
            self.operations.append(_Operation(name, plain, tuple(given)))
        out = func(*args, **(kwargs or {}))
        self._note(out)
        return out

    def _note(self, value: Any) -> None:
        if isinstance(value, Tensor):
            self._made[id(value)] = weakref.ref(value)
        elif isinstance(value, (tuple, list)):
            for each in value:
                self._note(each)

    def _plain(self, value: Any, given: list[Tensor]) -> Any:
        """``value`` in a form that can be compared, with its tensors that were not made here added to ``given``."""
        if isinstance(value, Tensor):
            known = self._made.get(id(value))
            if self._values and (known is None or known() is not value):
                given.append(value)
            return "tensor", tuple(value.shape)
        if isinstance(value, dict):
            return tuple((key, self._plain(each, given)) for key, each in value.items())
        if isinstance(value, (tuple, list)):
            return tuple(self._plain(each, given) for each in value)
        if isinstance(value, torch.dtype):
            return "type"
        if isinstance(value, (bool, int, float, complex, str, slice, type(None))):
            return repr(value)
        return type(value).__name__


def _called_by_the_project() -> bool:
    """Whether the first code that is not torch's, of what has called a function of torch, is the project's own."""
    frame = inspect.currentframe()
    # this function and the one that was told of the call
    frame = frame and frame.f_back and frame.f_back.f_back
    while frame is not None:
        module = str(frame.f_globals.get("__name__"))
        if module.partition(".")[0] != "torch":
            return module.startswith("runner.")
        frame = frame.f_back
    return False


def _same(one: Tensor, other: Tensor) -> bool:
    return one is other or (
        one.shape == other.shape
        and one.device == other.device
        and bool(torch.equal(one.to(torch.float64), other.to(torch.float64)))
    )
