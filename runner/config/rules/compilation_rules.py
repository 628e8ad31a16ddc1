"""Rules of ``hardware.compile`` and ``hardware.cuda_graphs``; the plan checks those of the device."""

from __future__ import annotations

from collections.abc import Callable

from runner.config.schema import RunConfig
from runner.errors import RequestError

COMPILING_DEVICES = ("cpu", "cuda")
"""For which torch's compiler makes code of training steps."""
RECORDING_DEVICES = ("cuda",)
"""That have CUDA graphs."""


def refuse_device(config: RunConfig, kind: str) -> None:
    """Refuse to compile or record for a ``kind`` of device (``cpu``, ``cuda``, ``mps``) that cannot.

    Raises:
        RequestError: names the key and the devices.
    """
    for key, devices in (("compile", COMPILING_DEVICES), ("cuda_graphs", RECORDING_DEVICES)):
        if getattr(config.hardware, key) and kind not in devices:
            raise RequestError(f"hardware.{key}", f"true on {kind}", f"false, or hardware.device={devices[-1]}")


def _the_device_can(config: RunConfig) -> None:
    if config.hardware.device != "auto":
        refuse_device(config, config.hardware.device)


def _private_gradients_are_not_compiled(config: RunConfig) -> None:
    if not config.privacy.enabled:
        return
    if config.hardware.compile:
        raise RequestError(
            "hardware.compile",
            True,
            "false with trainer=dp, whose per-example gradients are taken at the layers that the compiler merges",
        )
    if config.hardware.cuda_graphs:
        raise RequestError(
            "hardware.cuda_graphs",
            True,
            "false with trainer=dp, whose Poisson batches have another size at every update",
        )


def _one_decides_what_is_computed_again(config: RunConfig) -> None:
    if not config.model.gradient_checkpointing:
        return
    if config.hardware.compile:
        raise RequestError(
            "hardware.compile",
            True,
            "false with model.gradient_checkpointing=true: the compiler decides by itself what is computed again",
        )
    if config.hardware.cuda_graphs:
        raise RequestError(
            "hardware.cuda_graphs",
            True,
            "false with model.gradient_checkpointing=true, which reads random states that a recording may not read",
        )


COMPILATION_RELATIONS: tuple[Callable[[RunConfig], None], ...] = (
    _the_device_can,
    _private_gradients_are_not_compiled,
    _one_decides_what_is_computed_again,
)
