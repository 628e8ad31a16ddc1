"""What a user's optimizer keeps in attributes beside its state: saved where it is plain, refused where it is not.

``state_dict`` of torch's ``Optimizer`` holds ``state`` and ``param_groups``.  Any other attribute starts again from its
first value in a run that goes on, which then computes something else without a word.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Iterator
from typing import Any

import torch

from runner.errors import RunError

_PLAIN = (bool, int, float, str, type(None))


def save_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What a checkpoint holds of ``optimizer``: its state, and attributes of a user's that are single plain values."""
    attributes = {name: value for name, value in _attributes(optimizer).items() if type(value) in _PLAIN}
    saved = {"optimizer": optimizer.state_dict()}
    return saved | {"optimizer_attributes": attributes} if attributes else saved


def load_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Restore what ``save_optimizer`` gave."""
    optimizer.load_state_dict(saved["optimizer"])
    _restore_types(optimizer, saved["optimizer"])
    # checkpoints of former versions have none
    for name, value in saved.get("optimizer_attributes", {}).items():
        if type(value) in _PLAIN and not name.startswith("__") and not callable(getattr(optimizer, name, None)):
            setattr(optimizer, name, value)


def _restore_types(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Give each tensor of the state the type that it was saved in.

    torch gives it that of its parameter, whatever the optimizer keeps: NAdam's product of momenta is in float32, and a
    run in float64 went on to other bits.
    """
    if saved.keys() != {"state", "param_groups"}:
        return
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    numbers = [number for group in saved["param_groups"] for number in group["params"]]
    for number, parameter in zip(numbers, parameters, strict=True):
        state = optimizer.state.get(parameter, {})
        for name, value in saved["state"].get(number, {}).items():
            held = state.get(name)
            if isinstance(value, torch.Tensor) and isinstance(held, torch.Tensor) and held.dtype != value.dtype:
                state[name] = value.to(held.device)


class AttributesBefore:
    """The attributes of an optimizer before an update, to find those that the update changes and no checkpoint holds.

    Of each a digest is kept.  Objects that cannot be pickled count as unchanged while they are the same objects.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        """Take them now."""
        self._optimizer = optimizer
        self._before = self._digests()

    def refuse_lost(self, name: str) -> None:
        """Refuse the optimizer, ``name`` in the message, if an attribute that a resumed run would lose has changed.

        Raises:
            RunError: names the attribute.
        """
        for attribute, digest in self._digests().items():
            value = vars(self._optimizer)[attribute]
            if type(value) not in _PLAIN and self._before.get(attribute) != digest:
                raise RunError(
                    f"no checkpoint can hold {attribute} of optimizer={name}: updates change it"
                    f" ({type(value).__name__}) and it is no part of the optimizer's state: put it into self.state or"
                    " self.param_groups, or give it in state_dict()"
                )

    def _digests(self) -> dict[str, str]:
        held = {tensor.untyped_storage().data_ptr() for tensor in _tensors_held(self._optimizer)}
        return {name: _digest(value, held) for name, value in _attributes(self._optimizer).items()}


def _attributes(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Attributes that nothing else saves: none of torch's own classes, nor of one whose ``state_dict`` gives more."""
    if type(optimizer).__module__.startswith("torch.") or optimizer.state_dict().keys() - {"state", "param_groups"}:
        return {}
    own = vars(torch.optim.SGD([torch.zeros(1)], lr=0.1))
    return {name: value for name, value in vars(optimizer).items() if name not in own and not callable(value)}


def _tensors_held(optimizer: torch.optim.Optimizer) -> Iterator[torch.Tensor]:
    """Tensors that are saved, as weights or as state, and gradients, which are computed anew."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            yield parameter
            if parameter.grad is not None:
                yield parameter.grad
    for state in optimizer.state.values():
        yield from (value for value in state.values() if isinstance(value, torch.Tensor))


def _digest(value: Any, held: set[int]) -> str:
    class Pickler(pickle.Pickler):
        def persistent_id(self, found: Any) -> Any:
            if isinstance(found, torch.Tensor):
                if found.untyped_storage().data_ptr() in held:
                    return ("held", id(found))
                whole = found.detach().cpu().contiguous().flatten().view(torch.uint8)
                return (found.shape, str(found.dtype), hashlib.sha256(whole.numpy().tobytes()).hexdigest())
            if isinstance(found, torch.Generator):
                return hashlib.sha256(found.get_state().numpy().tobytes()).hexdigest()
            # another optimizer has a state of its own; modules and classes are no state of an optimizer
            if isinstance(found, (torch.optim.Optimizer, torch.nn.Module, type)) or callable(found):
                return id(found)
            return None

    content = io.BytesIO()
    try:
        Pickler(content).dump(value)
    except Exception:  # what pickle says of a stranger's objects is up to these
        return f"object {id(value)}"
    return hashlib.sha256(content.getvalue()).hexdigest()
