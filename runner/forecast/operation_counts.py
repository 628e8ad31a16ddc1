"""Operation counts of a network while it runs: FLOPs, kernels, kept activations.

Imported late by those who measure memory: torch's formulas bring the compiler of GPU kernels with them, 75 MiB that no
run holds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from runner.forecast.costs import EXAMPLES, ModelSize
from runner.internals.counting import Operations
from runner.models.layer_kinds import BATCH_NORMS
from runner.models.memory_format import format_for


class Count(Operations):
    """Floating-point operations and kernels; views compute nothing.

    ``torch.utils.flop_counter.FlopCounterMode`` has the same formulas and imports the compiler at its first operation,
    which takes longer than planning may.
    """

    def __init__(self) -> None:
        super().__init__()
        # imports triton, 70 MiB that no run holds: not before the memory of a rehearsal has been measured
        from torch.utils.flop_counter import flop_registry

        self._formulas = flop_registry
        self.flops = self.kernels = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if (formula := self._formulas.get(func.overloadpacket)) is not None:
            self.flops += formula(*args, **kwargs, out_val=result)
        self.kernels += not func.is_view
        return result


def count_operations(work: Callable[[], None]) -> Count:
    """Count what ``work`` does on tensors."""
    with Count() as counted:
        work()
    return counted


def measure_model(model: nn.Module, *, image_shape: tuple[int, ...]) -> ModelSize:
    """Count what ``model``, on the CPU, does with images [C, H, W] in one forward and one backward pass.

    Gradients and statistics of its layers change; do not train it afterwards.
    """
    parameters = list(model.parameters())
    dtype = parameters[0].dtype if parameters else torch.float32
    # as they are trained, so that what is prepared for these layouts serves again
    memory_format = format_for(model, channels_last=True)
    model = model.to(memory_format=memory_format)  # type: ignore[call-overload]
    images = torch.zeros(EXAMPLES, *image_shape, dtype=dtype).contiguous(memory_format=memory_format)
    saved: dict[int, int] = {}
    own = {parameter.untyped_storage().data_ptr() for parameter in parameters}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    model.train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        counted = count_operations(lambda: model(images).sum().backward())
    for parameter in parameters:
        parameter.grad = None
    return ModelSize(
        parameters=sum(parameter.numel() for parameter in parameters),
        trainable=sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        flops=counted.flops // EXAMPLES,
        kernels=counted.kernels,
        saved_per_example=sum(saved.values()) // EXAMPLES,
        batch_norm=any(isinstance(module, BATCH_NORMS) for module in model.modules()),
    )
