"""The operations of a network, counted while they run: FLOPs, kernels, memory traffic, kept activations."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from runner.estimate.costs import ModelSize

EXAMPLES = 2
"""Images that are counted on: BatchNorm has no statistics of one."""

_CONVOLUTIONS = (torch.ops.aten.convolution, torch.ops.aten.convolution_backward)


class _Count(TorchDispatchMode):
    """Sums up what each operation does.

    ``torch.utils.flop_counter.FlopCounterMode`` has the same formulas and imports the compiler at its first operation,
    which takes longer than planning may.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = self.convolution_flops = self.kernels = self.bytes = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if (formula := flop_registry.get(func._overloadpacket)) is not None:
            flops = formula(*args, **kwargs, out_val=result)
            self.flops += flops
            if func._overloadpacket in _CONVOLUTIONS:
                self.convolution_flops += flops
        if not func.is_view:
            self.kernels += 1
            leaves = tree_leaves((args, kwargs, result))
            self.bytes += sum(leaf.numel() * leaf.element_size() for leaf in leaves if isinstance(leaf, Tensor))
        return result


def measure_model(model: nn.Module, *, image_shape: tuple[int, int, int]) -> ModelSize:
    """Count what ``model``, on the CPU, does with images [C, H, W] in one forward and one backward pass.

    Gradients and statistics of its layers change; do not train it afterwards.
    """
    parameters = list(model.parameters())
    dtype = parameters[0].dtype if parameters else torch.float32
    images = torch.zeros(EXAMPLES, *image_shape, dtype=dtype)
    saved: dict[int, int] = {}
    own = {parameter.untyped_storage().data_ptr() for parameter in parameters}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    model.train()
    with _Count() as counted, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(images).sum().backward()
    for parameter in parameters:
        parameter.grad = None
    size = sum(parameter.numel() * parameter.element_size() for parameter in parameters)
    # each weight is read in both passes and its gradient written in one
    per_batch = min(3 * size, counted.bytes)
    return ModelSize(
        parameters=sum(parameter.numel() for parameter in parameters),
        trainable=sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        flops=counted.flops // EXAMPLES,
        convolution_flops=counted.convolution_flops // EXAMPLES,
        kernels=counted.kernels,
        bytes_per_example=(counted.bytes - per_batch) // EXAMPLES,
        bytes_per_batch=per_batch,
        saved_per_example=sum(saved.values()) // EXAMPLES,
        batch_norm=any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()),
    )
