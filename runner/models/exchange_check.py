"""Evidence that a network whose BatchNorm was exchanged for GroupNorm differs from the former one in nothing else."""

from __future__ import annotations

import inspect
import logging
import random
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from runner.error_texts import is_out_of_memory
from runner.errors import RequestError
from runner.internals.trees import tree_leaves
from runner.models.batch_statistics import exchangeable, fixed_scales, no_exchange
from runner.models.norm import batch_to_group, groups_for
from runner.models.scratch_buffers import scratch_buffers

log = logging.getLogger(__name__)

_IMAGES = 2
_STATISTICS = re.compile(r"(mean|var|std)")
_ARGUMENTS = inspect.signature(F.batch_norm)
_BATCH_NORMS = (F.batch_norm, torch.batch_norm, torch.native_batch_norm)

Trace = list[tuple[str, str, tuple[object, ...]]]
"""(name, class, bits of what it gave) of each module in the order in which they ended."""


def exchange(
    model: nn.Module, *, image_shape: tuple[int, int, int], tell: Callable[[str], None] = log.info
) -> nn.Module:
    """``batch_to_group`` that proves on two random images what it did.

    The network as it was runs with ``F.group_norm`` in the place of ``F.batch_norm`` inside the layers that are to be
    replaced, and then the network as it is: every module of both must give the same bits in the same order, in training
    and in evaluation mode, with random layers drawing the same.  So what is compared is no list of layers: a forward
    pass that did more than to normalise has lost what it did, whatever it was.

    Parameters, buffers, modes and the random state are left as they were found.  ``image_shape`` is (C, H, W); ``tell``
    takes what stays as it is.

    Raises:
        RequestError: names the layer that cannot be exchanged, does more than to normalise, or still takes statistics
            over a batch.
    """
    layers = exchangeable(model)
    images = torch.randn(_IMAGES, *image_shape, generator=torch.Generator().manual_seed(0))
    before = [_trace(model, images, training, set(layers.values())) for training in (True, False)] if layers else []
    model = batch_to_group(model)
    if fixed := fixed_scales(model):
        more = f", with {len(fixed) - 1} more like it" if len(fixed) > 1 else ""
        tell(f"model.norm=group: {fixed[0]} stays{more}: frozen BatchNorm is a fixed scale, and mixes no examples")
    after = [_trace(model, images, training, ()) for training in (True, False)]
    for former, now in zip(before, after, strict=bool(layers)):
        _compare(former, [step for step in now if not _is_inside(step[0], layers)], layers)
    return model


def _compare(before: Trace, after: Trace, layers: dict[str, nn.Module]) -> None:
    for former, now in zip_longest(before, after):
        if former is None or now is None or (former[0], former[2]) != (now[0], now[2]):
            name, kind, _ = former or now
            reason = "without its statistics it gives other values than GroupNorm on a random batch"
            raise no_exchange(name, layers.get(name, kind), reason)


def _is_inside(name: str, layers: Collection[str]) -> bool:
    return any(name.startswith(f"{layer}.") for layer in layers)


def _trace(model: nn.Module, images: Tensor, training: bool, layers: Collection[nn.Module]) -> Trace:
    """What the modules of ``model`` give for ``images``, the normalisation of ``layers`` done by GroupNorm."""
    trace: Trace = []
    names = {module: name for name, module in model.named_modules()}
    inside = {child for layer in layers for child in layer.modules() if child is not layer}
    running: list[nn.Module] = []

    def begin(module: nn.Module, *_: Any) -> None:
        running.append(module)

    def end(module: nn.Module, inputs: Any, output: Any) -> None:
        running.pop()
        if module not in inside:
            bits = tuple(_bits(leaf) for leaf in tree_leaves(output) if isinstance(leaf, Tensor))
            trace.append((names[module], type(module).__name__, bits))

    with ExitStack() as stack:
        for module in names:
            stack.callback(module.register_forward_pre_hook(begin).remove)
            stack.callback(module.register_forward_hook(end).remove)
        stack.enter_context(_left_as_found(model, training))
        stack.enter_context(scratch_buffers(model))
        if layers:
            stack.enter_context(_one_process())
            stack.enter_context(_Grouped(layers, names, running))
        else:
            stack.enter_context(_NoBatchLeft(names, running))
        kept = {(module, key): value.clone() for module in names for key, value in _statistics(module)}
        try:
            with torch.no_grad():
                model(images)
        except (RequestError, MemoryError):
            raise
        except Exception as error:  # of the user's own network
            if is_out_of_memory(error):
                raise
            raise _fails(running[-1] if running else model, names, layers, error) from error
        changed = [(module, key) for module in names for key, value in _statistics(module) if training]
        for module, key in changed:
            if not layers and not torch.equal(kept[module, key], getattr(module, key)):
                raise no_exchange(names[module], module, f"it keeps a {key} of the examples")
    return trace


def _fails(
    layer: nn.Module, names: dict[nn.Module, str], layers: Collection[nn.Module], error: Exception
) -> RequestError:
    where = f"{names[layer] or 'the model'} ({type(layer).__name__})"
    reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
    when = " before anything is exchanged" if layers else ""
    expected = f"a network that takes two random images, so that it can be compared{when}: {reason}"
    return RequestError("model.norm", f"group with {where}, which fails", expected)


def _statistics(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for key, value in module.named_buffers(recurse=False):
        if _STATISTICS.search(key):
            yield key, value


def _bits(tensor: Tensor) -> tuple[object, ...]:
    plain = tensor.detach()
    if plain.is_floating_point() or plain.dtype in (torch.int64, torch.int32):
        return plain.dtype, plain.shape, int(torch.hash_tensor(plain).view(torch.int64)), plain.double().sum().item()
    return plain.dtype, plain.shape


class _Grouped(TorchFunctionMode):
    """Inside the layers that are to be replaced, BatchNorm's operation is GroupNorm's."""

    def __init__(self, layers: Collection[nn.Module], names: dict[nn.Module, str], running: list[nn.Module]) -> None:
        super().__init__()
        self._layers = layers
        self._names = names
        self._running = running

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is not F.batch_norm or not self._running or self._running[-1] not in self._layers:
            return function(*args, **(kwargs or {}))
        layer = self._running[-1]
        asked = _ARGUMENTS.bind(*args, **(kwargs or {}))
        asked.apply_defaults()
        given = asked.arguments
        values: Tensor = given["input"]
        groups = groups_for(values.shape[1])
        if values[0].numel() == groups:
            raise no_exchange(self._names[layer], layer, "a group would have a single value, and nothing be left of it")
        return F.group_norm(values, groups, given["weight"], given["bias"], given["eps"])


class _NoBatchLeft(TorchFunctionMode):
    """Refuses what still normalises over several examples; over a single one it is weights that are standardised."""

    def __init__(self, names: dict[nn.Module, str], running: list[nn.Module]) -> None:
        super().__init__()
        self._names = names
        self._running = running

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in _BATCH_NORMS and self._running:
            given = [*args, *(kwargs or {}).values()]
            training = (kwargs or {}).get("training", args[5] if len(args) > 5 else False)
            if training and len(given[0]) > 1:
                layer = self._running[-1]
                raise no_exchange(self._names[layer], layer, "its forward pass normalises over the batch by itself")
        return function(*args, **(kwargs or {}))


@contextmanager
def _one_process() -> Iterator[None]:
    """SyncBatchNorm computes what BatchNorm does, as in a single process; by itself it insists on a GPU."""
    own = nn.SyncBatchNorm.forward
    nn.SyncBatchNorm.forward = nn.BatchNorm2d.forward  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.SyncBatchNorm.forward = own  # type: ignore[method-assign]


@contextmanager
def _left_as_found(model: nn.Module, training: bool) -> Iterator[None]:
    """Inside, ``model`` is in training mode or not, and all draws are those of one seed."""
    modes = {module: module.training for module in model.modules()}
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)
        model.train(training)
        try:
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode
            random.setstate(python)
            np.random.set_state(numpy)
