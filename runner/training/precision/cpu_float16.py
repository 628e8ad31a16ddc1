"""float16 autocast at usable speed on a CPU.

A GPU multiplies float16 numbers and adds them up in float32.  Few CPUs can: without float16 tiles (AMX-FP16) oneDNN
answers a float16 convolution's *backward* with a reference kernel, a hundred times slower than float32, and without
AVX512-FP16 the forward and the matrix products are as slow.  Here the operands are rounded to float16 as autocast would
round them, the arithmetic is done by the float32 kernels, and the result is rounded to float16: what the GPU computes,
up to the order of summation, on any CPU.

Gradients pass through float16 on the same borders, so that a loss scale underflows and overflows where it would on a
GPU.  Convolutions and linear layers keep for backward what they were given, which is float16 within a network; the
rarer products keep a float32 copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from runner.internals.attention import multi_head_attention_body


@contextmanager
def half_forward() -> Iterator[None]:
    """The context of a forward pass in float16 autocast on the CPU; backward may run inside or outside of it.

    Stands in for ``torch.autocast("cpu", torch.float16)`` with any model, in ``torch.func`` transforms and under
    Opacus' hooks.  A nested ``torch.autocast("cpu", enabled=False)`` is respected.
    """
    with torch.autocast("cpu", torch.float16), _Float32Kernels():
        yield


class _Float32Kernels(TorchFunctionMode):
    """Sends the products that CPU autocast would run in float16 to the float32 kernels."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run ``func``, or its counterpart with float32 arithmetic when autocast would run it in float16."""
        kwargs = kwargs or {}
        counterpart = _COUNTERPARTS.get(func)
        if counterpart is not None and _in_half(*args, **kwargs):
            with _autocast_off():
                return counterpart(func, *args, **kwargs)
        if func is F.multi_head_attention_forward:
            # Written in Python on top of the products above, which this mode would not see while it handles the call.
            with self:
                return multi_head_attention_body(*args, **kwargs)
        return func(*args, **kwargs)


def _in_half(*args: Any, out: Tensor | None = None, **kwargs: Any) -> bool:
    """Whether CPU autocast would cast these operands to float16; float64, ``out=`` and other devices stay."""
    if not torch.is_autocast_enabled("cpu") or torch.get_autocast_dtype("cpu") is not torch.float16 or out is not None:
        return False
    operands = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor) and a.is_floating_point()]
    return bool(operands) and all(a.device.type == "cpu" and a.dtype is not torch.float64 for a in operands)


@contextmanager
def _autocast_off() -> Iterator[None]:
    # torch.autocast(enabled=False) does the same at ten times the cost, and clears the cache of casts on its way out.
    before = torch.is_autocast_enabled("cpu")
    torch.set_autocast_enabled("cpu", False)
    try:
        yield
    finally:
        torch.set_autocast_enabled("cpu", before)


class _Convolution(torch.autograd.Function):
    """A convolution of operands rounded to float16, computed in float32."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: list[int],
        padding: list[int],
        dilation: list[int],
        groups: int,
    ) -> Tensor:
        unpadded = [0] * len(stride)
        operands = _rounded(x), _rounded(weight), None if bias is None else _rounded(bias)
        return torch.convolution(*operands, stride, padding, dilation, False, unpadded, groups).half()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        x, weight, bias, *ctx.geometry = inputs
        ctx.bias_sizes = None if bias is None else [bias.shape[0]]
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.geometry
        grad_x, grad_weight, grad_bias = torch.ops.aten.convolution_backward(
            grad.float(),
            _rounded(x),
            _rounded(weight),
            ctx.bias_sizes,
            stride,
            padding,
            dilation,
            False,
            [0] * len(stride),
            groups,
            list(ctx.needs_input_grad[:3]),
        )
        # The parameters are of one type, so the weight's is the bias' too.
        grads = _gradient(grad_x, x), _gradient(grad_weight, weight), _gradient(grad_bias, weight)
        return (*grads, None, None, None, None)


class _Linear(torch.autograd.Function):
    """A linear layer of operands rounded to float16, computed in float32."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(_rounded(x), _rounded(weight), None if bias is None else _rounded(bias)).half()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        x, weight, _ = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        grad = grad.float()
        rows = grad.reshape(-1, grad.shape[-1])
        grad_x = grad @ _rounded(weight) if wants_x else None
        grad_weight = rows.t() @ _rounded(x).reshape(-1, x.shape[-1]) if wants_weight else None
        grad_bias = rows.sum(0) if wants_bias else None
        return _gradient(grad_x, x), _gradient(grad_weight, weight), _gradient(grad_bias, weight)


def _rounded(operand: Tensor) -> Tensor:
    """The values that ``operand`` has in float16, in float32."""
    return operand.half().float()


def _gradient(value: Tensor | None, operand: Tensor) -> Tensor | None:
    """A gradient as autocast hands it on: through float16, where it may overflow, to the type of its operand."""
    return None if value is None else value.half().to(operand.dtype)


def _convolution(
    func: Callable[..., Tensor],
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    dimensions = weight.dim() - 2
    dilation = _per_dimension(dilation, dimensions)
    if padding == "same":
        totals = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        if any(total % 2 for total in totals):
            # One pixel more at the far end, as torch pads; F.pad counts from the last dimension.
            input = F.pad(input, [side for t in reversed(totals) for side in (t // 2, t - t // 2)])
            totals = [0] * dimensions
        padding = [total // 2 for total in totals]
    elif isinstance(padding, str):
        padding = {"valid": 0}[padding]
    unbatched = input.dim() == dimensions + 1
    output = _Convolution.apply(
        input.unsqueeze(0) if unbatched else input,
        weight,
        bias,
        _per_dimension(stride, dimensions),
        _per_dimension(padding, dimensions),
        dilation,
        groups,
    )
    return output.squeeze(0) if unbatched else output


def _per_dimension(value: int | Sequence[int], dimensions: int) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * dimensions if len(values) == 1 else values


def _linear(func: Callable[..., Tensor], input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return _Linear.apply(input, weight, bias)


def _product(func: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
    def operand(value: Any) -> Any:
        return _rounded(value) if isinstance(value, Tensor) and value.is_floating_point() else value

    return func(*map(operand, args), **{key: operand(value) for key, value in kwargs.items()}).half()


_COUNTERPARTS: dict[Callable[..., Any], Callable[..., Tensor]] = {
    **dict.fromkeys([torch.conv1d, torch.conv2d, torch.conv3d], _convolution),
    F.linear: _linear,
    **dict.fromkeys(
        [
            F.conv_transpose1d,
            F.conv_transpose2d,
            F.conv_transpose3d,
            F.scaled_dot_product_attention,
            torch.matmul,
            torch.mm,
            torch.bmm,
            torch.addmm,
            torch.baddbmm,
            Tensor.__matmul__,
            Tensor.matmul,
            Tensor.mm,
            Tensor.bmm,
        ],
        _product,
    ),
}
