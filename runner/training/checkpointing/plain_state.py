"""The values that a checkpoint may hold: tensors and plain values, so that reading one never runs code."""

from __future__ import annotations

import io
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from runner.errors import RunError

if TYPE_CHECKING:
    from runner.training.checkpointing.optimizer_attributes import AttributesBefore
    from runner.training.parts import Parts

_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.Tensor, nn.Parameter)
_MAPPINGS = (dict, OrderedDict)
_SEQUENCES = (list, tuple)


def refuse_unholdable(what: str, state: Any) -> None:
    """Refuse a ``state`` that could be written and never read again; ``what`` it is of, for the message.

    Raises:
        RunError: names the first key whose value is neither a tensor nor a plain value.
    """
    if (found := _unholdable(state)) is None:
        return
    path, value = found
    kind = type(value)
    named = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    article = "an" if named[0].lower() in "aeiou" else "a"
    place = f"{path} in the state of {what}" if path else f"the state of {what}"
    raise RunError(
        f"no checkpoint can hold {place}: it is {article} {named}, and only tensors, numbers, texts, and lists and"
        " dictionaries of these are read back"
    )


def refuse_unholdable_parts(parts: Parts, before: AttributesBefore) -> None:
    """Refuse parts that a checkpoint cannot hold, as soon as all have their state: after the first update.

    ``before`` are the optimizer's attributes before it.

    Raises:
        RunError: see ``refuse_unholdable`` and ``AttributesBefore.refuse_lost``.
    """
    semantic = parts.plan.semantic
    refuse_unholdable(f"optimizer={semantic.optimizer.name}", parts.optimizer.state_dict())
    before.refuse_lost(semantic.optimizer.name)
    refuse_unholdable(f"scheduler={semantic.scheduler.name}", parts.schedule.state_dict())
    refuse_unholdable("the precision", parts.precision.state_dict())
    for name, value in parts.model.state_dict().items():
        if not isinstance(value, torch.Tensor):  # what get_extra_state gives
            raise RunError(
                f"no checkpoint can hold {name} in the state of model={semantic.model.name}: it is a"
                f" {type(value).__qualname__}, and of a model only tensors are read back: register_buffer makes one"
            )


def _unholdable(value: Any, path: str = "") -> tuple[str, Any] | None:
    """The first place in ``value``, and what is there, that reading would refuse."""
    kind = type(value)
    if kind in _MAPPINGS:
        for key, inner in value.items():
            # a key is a plain value itself
            found = _unholdable(key, f"{path}.{key!r}".lstrip(".")) or _unholdable(inner, f"{path}.{key}".lstrip("."))
            if found is not None:
                return found
        return None
    if kind in _SEQUENCES:
        places = (_unholdable(inner, f"{path}[{index}]") for index, inner in enumerate(value))
        return next((found for found in places if found is not None), None)
    if kind in _PLAIN and not _has_attributes(value):
        return None
    return None if _is_read_back(value) else (path, value)


def _has_attributes(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and bool(vars(value))


def _is_read_back(value: Any) -> bool:
    """Whether what ``torch.save`` writes of ``value`` can be loaded as data."""
    buffer = io.BytesIO()
    try:
        torch.save(value, buffer)
        buffer.seek(0)
        torch.load(buffer, map_location="cpu", weights_only=True)
    except Exception:  # what pickle says of a stranger's objects is up to these
        return False
    return True
