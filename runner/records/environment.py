"""Facts about the machine that a reader needs to judge a figure: never who ran it, on which host or in which folder."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import os
import platform
import sys
from pathlib import Path
from typing import Any

import torch

from runner.internals.plain import PLAIN_VARIABLE
from runner.planning.device import available_cores, cpu_name, kinds_here, ram_bytes
from runner.planning.native_types import natives_of
from runner.records.repository import describe_repository

_PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "hydra-core",
    "omegaconf",
    "opacus",
    "accelerate",
    "dp-accounting",
    "wandb",
)
# Variables that change speed or results.  Their values are numbers and modes, never paths or secrets.
_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "KMP_AFFINITY",
    "CUDA_VISIBLE_DEVICES",
    "CUBLAS_WORKSPACE_CONFIG",
    "PYTORCH_CUDA_ALLOC_CONF",
    "PYTORCH_ALLOC_CONF",
    "NVIDIA_TF32_OVERRIDE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "ONEDNN_MAX_CPU_ISA",
    "MALLOC_ARENA_MAX",
    "WORLD_SIZE",
    PLAIN_VARIABLE,
)


def describe_environment() -> dict[str, Any]:
    """Return the machine, the libraries and the state of the user's repository, as plain values for ``run.json``."""
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": cpu_name(),
        "cores": available_cores(),
        "threads": torch.get_num_threads(),
        "ram_bytes": ram_bytes(),
        "native": {kind: dataclasses.asdict(natives_of(kind)) for kind in kinds_here()},
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "cuda": torch.version.cuda,
        "gpu_driver": _gpu_driver(),
        "packages": {name: found for name in _PACKAGES if (found := _version(name)) is not None},
        "runner": _version("recipe-runner"),
        "git": describe_repository(),
        "variables": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
    }


def peak_memory_bytes(device: torch.device) -> int:
    """Largest memory held so far: allocated on ``device`` if it is a GPU, else the process's resident set.

    The figure of the resident set is the whole process's, libraries included, and cannot be reset: compare runs that
    each had a process of their own.
    """
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    status = Path("/proc/self/status")
    if status.exists():
        # Linux hands ru_maxrss on to the programs that a process starts: a small run would show its launcher's peak.
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        if "VmHWM" in fields:
            return int(fields["VmHWM"].split()[0]) * 1024
    import resource  # Missing on Windows, where only this function is then missing too.

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)  # getrusage(2): kilobytes on Linux, bytes on macOS.


def reset_peak_memory(device: torch.device) -> None:
    """Let ``peak_memory_bytes`` start from what is held now, so that no run shows the peak of an earlier one."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        with contextlib.suppress(OSError):  # some containers forbid it: then the peak is the process's
            clear.write_text("5")  # proc(5): resets VmHWM


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _gpu_driver() -> str | None:
    version = Path("/sys/module/nvidia/version")
    return version.read_text().strip() if version.exists() else None
