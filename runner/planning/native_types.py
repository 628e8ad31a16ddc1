"""The 16-bit types that a device multiplies in hardware: one source for plans, advice and records.

The device states it (flags of the processor, compute capability of a GPU).  Whether that makes a model faster is
another question, which a probe answers (``precision=auto``).
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

_BF16 = {"avx512_bf16": "AVX512_CORE_BF16", "amx_bf16": "AVX512_CORE_AMX"}
_FP16 = {"avx512_fp16": "AVX512_CORE_FP16", "amx_fp16": "AVX512_CORE_AMX_FP16"}
"""Flags of x86 processors with products of the type, and the least ``ONEDNN_MAX_CPU_ISA`` under which they are used.

AVX-NE-CONVERT is none of them: it converts, and the products are those of float32.
"""
_BF16_ARM, _FP16_ARM = ("bf16", "sve_bf16"), ("fp16_arith",)
_LIMITS = (
    "SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI", "AVX512_CORE_BF16",
    "AVX512_CORE_FP16", "AVX512_CORE_AMX", "AVX512_CORE_AMX_FP16",
)  # fmt: skip
"""Values of ``ONEDNN_MAX_CPU_ISA``, each with the instructions of those before it (oneDNN's guide, "CPU dispatcher
control"); whatever else it says limits none of these."""


@dataclass(frozen=True, kw_only=True)
class Natives:
    """What a device computes natively, and its own words for it."""

    bf16: bool
    """Products of bfloat16."""
    fp16: bool
    """Products of float16."""
    tf32: bool
    """TensorFloat-32."""
    stated: tuple[str, ...]
    """Flags of a processor that the answer rests on, or the compute capability of a GPU."""

    def __str__(self) -> str:
        answers = ((name, getattr(self, name)) for name in ("bf16", "fp16", "tf32"))
        text = ", ".join(f"{name} {'yes' if has else 'no'}" for name, has in answers)
        return f"{text} ({', '.join(self.stated)})" if self.stated else text


def natives_of(kind: str) -> Natives:
    """The facts about this machine's first device of ``kind``: ``cpu``, ``cuda`` or ``mps``, which must be here."""
    if kind == "cuda":
        major, minor = torch.cuda.get_device_capability()
        # torch.cuda.is_bf16_supported() answers True by emulation before Ampere, where bf16 is slower than float32
        return of_capability(major, minor, bf16=torch.cuda.is_bf16_supported(including_emulation=False))
    if kind == "mps":
        # Apple states none of it to programs; float16 is the type of its GPUs
        return Natives(bf16=False, fp16=True, tf32=False, stated=())
    flags = {name for name, has in torch.cpu.get_capabilities().items() if has is True}
    return of_processor(flags, limit=os.environ.get("ONEDNN_MAX_CPU_ISA"))


def of_capability(major: int, minor: int, *, bf16: bool) -> Natives:
    """The facts about a GPU of NVIDIA's: float16 tensor cores from compute capability 7.0, TensorFloat-32 from 8.0."""
    stated = (f"compute capability {major}.{minor}",)
    return Natives(bf16=bf16, fp16=(major, minor) >= (7, 0), tf32=(major, minor) >= (8, 0), stated=stated)


def of_processor(flags: set[str], *, limit: str | None = None) -> Natives:
    """The facts about a processor with ``flags``, as ``torch.cpu.get_capabilities`` names them.

    ``limit`` is the value of ``ONEDNN_MAX_CPU_ISA``: instructions beyond it are there, and no kernel uses them.
    """
    rank = {name: number for number, name in enumerate(_LIMITS)}
    most = rank.get((limit or "").upper(), len(rank))
    bf16 = [flag for flag, needed in _BF16.items() if flag in flags and rank[needed] <= most]
    fp16 = [flag for flag, needed in _FP16.items() if flag in flags and rank[needed] <= most]
    bf16 += [flag for flag in _BF16_ARM if flag in flags]
    fp16 += [flag for flag in _FP16_ARM if flag in flags]
    return Natives(bf16=bool(bf16), fp16=bool(fp16), tf32=False, stated=(*bf16, *fp16))
