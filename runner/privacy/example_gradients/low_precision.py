"""Per-example gradients in 16 bits: what keeps them as exact as those of a batch."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from runner.internals.trees import tree_map_only
from runner.models.layer_kinds import INSTANCE_NORMS

_NORMS = (nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, *INSTANCE_NORMS)


def at_least_float32(tensor: Tensor) -> Tensor:
    """``tensor``, widened to float32 if it has 16 bits."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def normalisations(model: nn.Module) -> list[nn.Module]:
    """The layers that ``norms_in_float32`` is for."""
    return [module for module in model.modules() if isinstance(module, _NORMS)]


@contextmanager
def norms_in_float32(norms: Sequence[nn.Module]) -> Iterator[None]:
    """Normalisation in at least float32, as autocast has it on CUDA.

    Autocast leaves it in 16 bits on the CPU.  Plain kernels widen inside, but their vectorised gradients do not: cubes
    of 1/deviation overflow float16 and would zero perfectly good examples.
    """

    def widen(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Any]:
        wide: tuple[Any, Any] = tree_map_only(Tensor, at_least_float32, (inputs, named))
        return wide

    handles = [module.register_forward_pre_hook(widen, with_kwargs=True) for module in norms]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def plain_attention() -> Iterator[None]:
    """Attention by matrix products in one type, which vectorise; a fused kernel would run once per example."""
    before = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
    # for the CPU too, in spite of its name: otherwise 16-bit inputs are widened half-way and have no gradient here
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(before)


def quiet_fallbacks() -> None:
    """An operation without a vectorised form runs once per example: right, slower, and no news to the user."""
    warnings.filterwarnings("ignore", message="There is a performance drop because we have not yet implemented")
