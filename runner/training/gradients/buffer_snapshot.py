"""A snapshot of a model's buffers, which a repeated step restores: BatchNorm's move in the forward pass."""

from __future__ import annotations

import torch

from runner.internals.plain import plain_torch
from runner.internals.versions import version_of


class BufferSnapshot:
    """Copies that follow the buffers of a model; one that nobody has written to since is not copied again."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._buffers = list(model.buffers())
        self._copies = [buffer.clone() for buffer in self._buffers]
        # The kernels of BatchNorm write to its statistics without raising their version.
        statistics = {
            id(buffer) for module in model.modules() if hasattr(module, "running_mean") for buffer in module.buffers()
        }
        self._always = [plain_torch() or id(buffer) in statistics for buffer in self._buffers]
        self._versions = self._read_versions()

    def take(self) -> None:
        """Remember the buffers as they are."""
        if not self._buffers:
            return
        for copy, buffer in self._changed():
            copy.copy_(buffer)
        self._versions = self._read_versions()

    def put_back(self) -> None:
        """Make the buffers what they were when ``take`` was called last."""
        for copy, buffer in self._changed():
            buffer.copy_(copy)
        self._versions = self._read_versions()

    def _changed(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        rows = zip(self._copies, self._buffers, self._always, self._versions, strict=True)
        return [(copy, buffer) for copy, buffer, always, version in rows if always or version_of(buffer) != version]

    def _read_versions(self) -> list[int]:
        return [version_of(buffer) for buffer in self._buffers]
