"""State that a model carries from one forward pass to the next: under DP there must be none.

A running mean, a counter or a bank of earlier features is a function of private examples that no noise covers.  Buffers
are published with the weights; and whatever a forward pass leaves behind, the next one can bring to other examples, in
every way to per-example gradients.
"""

from __future__ import annotations

import hashlib
import random
import sys
import warnings
from collections import deque
from collections.abc import Iterator, Mapping
from enum import Enum
from functools import partial
from types import BuiltinFunctionType, CodeType, FunctionType, GeneratorType, MethodType, ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from runner.privacy.mechanism.random_layers import LayerKeys

_OF_EVERY_MODULE = frozenset(vars(nn.Module())) - {"_buffers", "_parameters"}
_TRUSTED = ("torch", "torchvision", "timm", "runner", "opacus", "numpy", "functools", "typing")
"""Packages whose functions are not searched for what they may remember; what their modules hold is."""
_PLAIN = (bool, int, float, complex, str, bytes, type(None), Enum, torch.dtype, torch.device, torch.Size, np.generic)
_NOT_CARRIED = (ModuleType, BuiltinFunctionType, LayerKeys)
"""What is not followed: keys of random layers are set anew for every batch.  Of a module, what code names of it is."""
_DEPTH = 12
"""Containers within containers that are followed."""
NOTHING_KEPT = "a model that keeps nothing of the examples it sees, because no noise would cover that"
"""What is expected of a model under DP, in words."""


class CarriedState:
    """The state of a model at one moment, by name, to be compared with a later one.

    Buffers, persistent or not, and parameters; tensors, arrays, numbers, containers, random generators and plain
    objects in the attributes of its modules and of their tensors; and, for classes from outside of torch, torchvision,
    timm and this package, what the class, the closures of its methods and what they name hold: globals, in other
    modules too, and other classes.  Of tensors and arrays a hash is kept.  Out of sight is what lies in compiled code,
    in other processes and in files.
    """

    def __init__(self, model: nn.Module, *, trained: bool = True) -> None:
        """``trained=False`` leaves out the parameters that an optimizer changes between two moments."""
        self._model = model
        self._trained = trained
        self._then = self._now()

    def changed(self) -> str | None:
        """What has changed first, in words and with its name; None when everything is as it was."""
        return _first_difference(self._then, self._now())

    def differs_from(self, other: CarriedState) -> str | None:
        """What differs first between these moments of two models of the same build; None where nothing does."""
        return _first_difference(self._then, other._then)

    def _now(self) -> dict[str, list[object]]:
        values: dict[str, list[object]] = {}
        for place, value in self._found():
            values.setdefault(place, []).append(value)
        return values

    def _found(self) -> Iterator[tuple[str, object]]:
        # the objects themselves, because the number of one that has gone is given again
        seen: dict[int, Any] = {}
        for name, module in self._model.named_modules():
            kind = type(module)
            of = f"of {name} ({kind.__name__})" if name else f"of {kind.__name__}"
            buffers = dict(module.named_buffers(recurse=False, remove_duplicate=False))
            parameters = dict(module.named_parameters(recurse=False, remove_duplicate=False))
            for key, tensor in buffers.items():
                yield f"the buffer {key} {of}", _value(tensor)
            for key, parameter in parameters.items():
                if self._trained or not parameter.requires_grad:
                    yield f"the parameter {key} {of}", _bits(parameter.detach())
            for key, tensor in (buffers | parameters).items():
                for inner, value in vars(tensor).items():
                    for place, found in _within(f"{key}.{inner}", value, seen):
                        yield f"the attribute {place} {of}", found
            for key, value in vars(module).items():
                if key not in _OF_EVERY_MODULE and key not in ("_buffers", "_parameters"):
                    for place, found in _within(key, value, seen):
                        yield f"the attribute {place} {of}", found
            for key, value in _of_class(kind, seen):
                for place, found in _within(key, value, seen):
                    yield f"the class attribute {place} {of}", found


def _first_difference(one: dict[str, list[object]], other: dict[str, list[object]]) -> str | None:
    return next((place for place in one | other if one.get(place) != other.get(place)), None)


def _within(place: str, value: Any, seen: dict[int, Any], depth: int = _DEPTH) -> Iterator[tuple[str, object]]:
    """(place, what can be compared) of ``value`` and of everything in it."""
    if isinstance(value, _PLAIN):
        yield place, (type(value), value)
        return
    if isinstance(value, Tensor | np.ndarray | torch.Generator | np.random.Generator | np.random.RandomState):
        yield place, _value(value)
        return
    if isinstance(value, random.Random):
        yield place, hash(value.getstate())
        return
    if id(value) in seen or depth == 0 or isinstance(value, _NOT_CARRIED):
        return
    if isinstance(value, type):
        for key, each in _of_class(value, seen):
            yield from _within(f"{place}.{key}", each, seen, depth - 1)
        return
    seen[id(value)] = value
    inside: list[tuple[str, Any]]
    if isinstance(value, Mapping):
        yield place, len(value)
        inside = [(f"{place}[{key!r}]" if isinstance(key, _PLAIN) else place, each) for key, each in value.items()]
    elif isinstance(value, list | tuple | deque):
        yield place, len(value)
        inside = [(f"{place}[{index}]", each) for index, each in enumerate(value)]
    elif isinstance(value, set | frozenset):
        yield place, (len(value), frozenset(each for each in value if isinstance(each, _PLAIN)))
        inside = []
    elif isinstance(value, GeneratorType):
        yield place, value.gi_frame is not None and value.gi_frame.f_lasti
        inside = [] if value.gi_frame is None else [(place, dict(value.gi_frame.f_locals))]
    elif isinstance(value, partial):
        inside = [(place, (value.func, value.args, value.keywords))]
    elif isinstance(value, staticmethod | classmethod | MethodType):
        inside = [(place, value.__func__)]
    elif isinstance(value, property):
        inside = [(place, value.fget)]
    elif isinstance(value, FunctionType):
        inside = list(_remembered(place, value))
    elif type(value).__module__ in sys.stdlib_module_names and not isinstance(value, SimpleNamespace):
        inside = [(place, each) for each in _of_library(value)]
    else:
        slots = [slot for kind in type(value).__mro__ for slot in vars(kind).get("__slots__", ())]
        held = {slot: getattr(value, slot, None) for slot in slots} | getattr(value, "__dict__", {})
        if isinstance(value, nn.Module):
            # one that is not registered: its buffers and parameters lie in the dictionaries of that name
            held = {key: each for key, each in held.items() if key not in _OF_EVERY_MODULE}
        inside = [(f"{place}.{key}", each) for key, each in held.items()]
    for where, each in inside:
        yield from _within(where, each, seen, depth - 1)


def _of_class(kind: type, seen: dict[int, Any]) -> Iterator[tuple[str, Any]]:
    """(name, value) of what ``kind`` and the classes that it is made of hold, but for those that are trusted."""
    for parent in kind.__mro__:
        if not _is_trusted(parent.__module__) and id(parent) not in seen:
            seen[id(parent)] = parent
            for key, value in vars(parent).items():
                if not key.startswith("__") or key in ("__call__", "__getattr__"):
                    yield key, value


def _of_library(value: Any) -> list[Any]:
    """What an object of Python's own library would be copied from, such as an iterator's place; nothing of a lock."""
    try:
        with warnings.catch_warnings():
            # itertools says that it will not do this for ever
            warnings.simplefilter("ignore", DeprecationWarning)
            reduced = value.__reduce_ex__(4)
    except (TypeError, ValueError, AttributeError, RuntimeError):
        return [repr(value) if isinstance(value, Iterator) else getattr(value, "__dict__", None)]
    if isinstance(reduced, str):
        return []
    # items come as iterators over the object itself
    return [list(each) if isinstance(each, Iterator) else each for each in reduced[1:]]


def _remembered(place: str, function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Closure, defaults, attributes and the globals that its code names, in other modules as well."""
    if _is_trusted(function.__module__):
        return
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f"{place} (its {name})", cell.cell_contents
        except ValueError:  # not bound yet
            yield f"{place} (its {name})", None
    yield place, function.__defaults__
    yield place, function.__kwdefaults__
    yield place, vars(function)
    names = list(_names(function.__code__))
    for name, value in _named(names, function.__globals__, set()):
        yield f"{place} (the global {name})", value


def _names(code: CodeType) -> Iterator[str]:
    """The names of globals, attributes and modules in ``code`` and in the functions and comprehensions inside."""
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _names(inner)


def _named(names: list[str], space: Mapping[str, Any], searched: set[int]) -> Iterator[tuple[str, Any]]:
    """What ``names`` stand for in the globals ``space``, and in the modules among these, for one that is imported."""
    for name in names:
        value = space[name] if name in space else sys.modules.get(name)
        if not isinstance(value, ModuleType):
            if name in space:
                yield name, value
        elif not _is_trusted(value.__name__) and id(value) not in searched:
            searched.add(id(value))
            for inner, found in _named(names, vars(value), searched):
                yield f"{name}.{inner}", found


def _bits(parameter: Tensor) -> tuple[int, ...]:
    """Two sums over the bits of a large tensor, exclusive or and addition, which do not leave its device."""
    whole = parameter.view(_WORDS[parameter.element_size()])
    return int(torch.hash_tensor(parameter).view(torch.int64)), int(whole.sum(dtype=torch.int64))


_WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def _value(value: Any) -> object:
    if value is None:
        return None
    if isinstance(value, torch.Generator):
        value = value.get_state()
    if isinstance(value, np.random.Generator):
        return repr(value.bit_generator.state)
    if isinstance(value, np.random.RandomState):
        return repr(value.get_state())
    if isinstance(value, Tensor):
        if torch.func.debug_unwrap(value, recurse=False) is not value:
            return object()  # left behind by a vectorised pass: equal to nothing
        if value.layout is not torch.strided or value.device.type == "meta":
            return repr(value)
        plain = value.detach().cpu().contiguous()
        return (plain.dtype, plain.shape, hashlib.blake2b(_bytes(plain)).digest())
    if value.dtype.hasobject:
        return repr(value)
    return (value.dtype, value.shape, hashlib.blake2b(np.ascontiguousarray(value).tobytes()).digest())


def _bytes(tensor: Tensor) -> bytes:
    return tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def _is_trusted(module: str | None) -> bool:
    return module is None or module.split(".")[0] in _TRUSTED or module.split(".")[0] in sys.stdlib_module_names
