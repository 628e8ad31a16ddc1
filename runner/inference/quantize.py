"""Weights of 8 or 4 bits: which layers get them, and a file that holds them at that size.

torchao does the arithmetic: symmetric rounding to integers, and linear layers and convolutions that widen the weights
again when they run (weight-only quantisation; activations stay float32).  Whatever is small or has no counterpart stays
as it is: biases, normalisation, and convolutions with few channels in a group, whose scales would take more room than
the weights save.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from runner.disk.files import write_bytes
from runner.errors import RequestError
from runner.internals import trees

FEWEST_CHANNELS = 16
"""Input channels of a convolution, in a group, from which on it is quantised: one scale serves as many weights."""
GROUP = 32
"""Weights that share a scale in a linear layer of 4 bits."""
INTEGERS: dict[int, torch.dtype] = {8: torch.int8, 4: getattr(torch, "int4")}  # noqa: B009, torch's types lack it
NOTE = "quantized"
"""Key of the safetensors header under which a file says how its integers are to be read."""


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """What was done to a model."""

    bits: int
    layers: tuple[str, ...]
    """Names of the layers with integer weights."""
    kept: tuple[str, ...]
    """Linear layers and convolutions that were left in float32."""
    weights: int
    """Number of integer weights."""
    parameters: int
    """Number of all parameters."""


def quantize(model: nn.Module, bits: int) -> Quantized:
    """Round the weights of ``model``, float32 and in eval mode, to ``bits`` (8 or 4), in place.

    int8: a scale for each row of a linear layer.  int4: a scale for each 32 weights of a row, or for the row where 32
    does not divide it.  Convolutions: a scale for each filter and place in it.

    Raises:
        RequestError: torchao is not installed, or the model has no layer to quantise.
    """
    ao = _torchao()
    layers, kept = _chosen(model)
    if not layers:
        raise RequestError(
            "inference", "quantized", f"a model with linear layers, or convolutions of {FEWEST_CHANNELS} channels"
        )
    parameters = sum(parameter.numel() for parameter in model.parameters())
    weights = sum(layer.weight.numel() for layer in layers.values())
    for layer in layers.values():
        by_row = ao.PerAxis(0)
        if bits == 8 and isinstance(layer, nn.Linear):
            config = ao.Int8WeightOnlyConfig(set_inductor_config=False)
        elif isinstance(layer, nn.Linear) and layer.in_features % GROUP == 0:
            config = ao.IntxWeightOnlyConfig(INTEGERS[4], ao.PerGroup(GROUP))
        else:
            config = ao.IntxWeightOnlyConfig(INTEGERS[bits], by_row)
        ao.quantize_(layer, config, filter_fn=lambda module, name: True)
    return Quantized(bits=bits, layers=tuple(layers), kept=kept, weights=weights, parameters=parameters)


def save_quantized(model: nn.Module, path: Path) -> int:
    """Write the weights of a quantised ``model`` as safetensors, two to a byte where they have 4 bits; the file's size.

    Raises:
        OSError: it cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    notes: dict[str, Any] = {}
    for name, tensor in model.state_dict().items():
        if not hasattr(tensor, "qdata"):
            tensors[name] = tensor.contiguous()
            continue
        if tensor.zero_point is not None and tensor.zero_point.any():
            raise ValueError(f"{name} is not quantised symmetrically")
        bits = 4 if getattr(tensor, "target_dtype", None) is INTEGERS[4] else 8
        notes[name] = {
            "kind": type(tensor).__name__,
            "bits": bits,
            "shape": list(tensor.qdata.shape),
            "block_size": list(tensor.block_size),
        }
        tensors[f"{name}.integers"] = _pack(tensor.qdata) if bits == 4 else tensor.qdata.contiguous()
        tensors[f"{name}.scale"] = tensor.scale.contiguous()
    content = save(tensors, metadata={NOTE: json.dumps(notes)})
    write_bytes(path, content)
    return len(content)


def load_quantized(model: nn.Module, path: Path) -> None:
    """Give a float32 ``model`` the weights that ``save_quantized`` wrote.

    Raises:
        RequestError: torchao is not installed.
    """
    ao = _torchao()
    plain: dict[str, Tensor] = {}
    with safe_open(path, "pt") as file:
        notes = json.loads(file.metadata()[NOTE])
        for name in file.keys():  # noqa: SIM118, it is no mapping
            owner, _, part = name.rpartition(".")
            if owner not in notes:
                plain[name] = file.get_tensor(name)
            elif part == "scale":
                layer = model.get_submodule(owner.rpartition(".")[0])
                weight = _rebuild(ao, notes[owner], file.get_tensor(f"{owner}.integers"), file.get_tensor(name))
                layer.weight = nn.Parameter(weight, requires_grad=False)
    missing, unexpected = model.load_state_dict(plain, strict=False)
    if unexpected or set(missing) != set(notes):
        raise ValueError(f"{path}: weights of another model ({[*unexpected, *set(missing) ^ set(notes)]})")


def _chosen(model: nn.Module) -> tuple[dict[str, nn.Linear | nn.Conv2d], tuple[str, ...]]:
    """Layers to quantise by name, and the names of their like that are left."""
    chosen: dict[str, nn.Linear | nn.Conv2d] = {}
    kept = []
    for name, module in model.named_modules():
        # Subclasses, such as the output of torch's attention, are read by code that knows nothing of integers.
        if type(module) is nn.Linear or (type(module) is nn.Conv2d and module.weight.shape[1] >= FEWEST_CHANNELS):
            chosen[name] = module
        elif isinstance(module, nn.Linear | nn.Conv2d):
            kept.append(name)
    return chosen, tuple(kept)


def _rebuild(ao: Any, note: dict[str, Any], integers: Tensor, scale: Tensor) -> Tensor:
    shape = tuple(note["shape"])
    values = _unpack(integers, shape) if note["bits"] == 4 else integers
    zero = torch.zeros_like(scale, dtype=torch.int8)
    if note["kind"] == "Int8Tensor":
        return ao.Int8Tensor(values, scale, note["block_size"], torch.float32, zero_point=zero)
    target = INTEGERS[note["bits"]]
    return ao.IntxUnpackedToInt8Tensor(values, scale, zero, target, tuple(note["block_size"]), torch.float32, None)


def _pack(values: Tensor) -> Tensor:
    """Integers in -8..7 as half bytes, the first of a pair in the low half; a last odd one is paired with 0."""
    flat = values.flatten().to(torch.int16) & 15
    if len(flat) % 2:
        flat = torch.cat([flat, flat.new_zeros(1)])
    return (flat[::2] | flat[1::2] << 4).to(torch.uint8)


def _unpack(packed: Tensor, shape: tuple[int, ...]) -> Tensor:
    halves = torch.stack([packed & 15, packed >> 4], dim=1).flatten().to(torch.int8)
    signed = torch.where(halves > 7, halves - 16, halves)
    return signed[: int(torch.Size(shape).numel())].reshape(shape)


def _torchao() -> Any:
    with _quiet_registration():
        try:
            import torchao.quantization
        except ImportError as error:
            raise RequestError(
                "inference", "quantized without torchao", "the extra: pip install 'recipe-runner[quantize]'"
            ) from error
    return torchao.quantization


@contextlib.contextmanager
def _quiet_registration() -> Iterator[None]:
    """An enum of torchao 0.18 is registered in a way that torch 2.15 logs a warning about, at the first import."""
    log = logging.getLogger(trees.LOGGER)
    disabled, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = disabled
