"""The model by torch's compiler (Ansel et al. 2024, "PyTorch 2"), for the micro-batches that are as large as planned.

Only the forward and backward passes of training are compiled, for one shape: an epoch's last, shorter micro-batch and
the evaluation run as they would without, because to compile for each of them takes longer than they do.  The weights
stay where they are, under their own names, so that a checkpoint does not know how its run computed.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from typing import TYPE_CHECKING, Any

import torch

from runner.error_texts import disk_error_text, is_out_of_memory
from runner.errors import RunError
from runner.internals.compiler import compiler_failures

if TYPE_CHECKING:
    from runner.training.gradients.micro_batch_size import MicroBatchSizes

_OPTIONS: dict[str, Any] = {"fallback_random": True}
"""Dropout draws what it would draw without the compiler, whose own generator gives other numbers."""


class CompiledModel:
    """Computes the logits of ``model`` by compiled code, which is made at the first whole micro-batch."""

    def __init__(self, model: torch.nn.Module, sizes: MicroBatchSizes) -> None:
        """``sizes`` says what a whole micro-batch is; after one is halved, the smaller ones are compiled for.

        Raises:
            RunError: torch has no compiler for this Python.
        """
        self._model = model
        self._sizes = sizes
        self._made: set[int] = set()
        self.seconds = 0.0
        """Taken so far by the calls that compiled; the first run of the forward pass is among it."""
        try:
            self._compiled: Any = torch.compile(model, dynamic=False, options=_OPTIONS)
        except RuntimeError as error:
            raise _not_compiled(error) from error

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [b, K] of images [b, C, H, W] on the device.

        Raises:
            RunError: the compiler failed, for want of a C++ compiler for example.
        """
        size = len(images)
        if size != self._sizes["training"]:
            logits: torch.Tensor = self._model(images)
            return logits
        if size in self._made:
            return self._compiled(images)  # type: ignore[no-any-return]
        start = time.perf_counter()
        logits = self._compile(images)
        self._made.add(size)
        self.seconds += time.perf_counter() - start
        return logits

    def _compile(self, images: torch.Tensor) -> Any:
        speaker = logging.getLogger("torch.utils.cpp_extension")
        speaker.addFilter(_is_worth_telling)
        try:
            return self._compiled(images)
        except compiler_failures() as error:
            if is_out_of_memory(error):
                raise
            raise _not_compiled(error) from error
        finally:
            speaker.removeFilter(_is_worth_telling)


def _is_worth_telling(record: logging.LogRecord) -> bool:
    """Whether to let ``record`` through: on a machine with CUDA's tools and no GPU, torch warns of that."""
    return not record.getMessage().startswith("No CUDA runtime is found")


def _not_compiled(error: BaseException) -> RunError:
    cause = getattr(error, "inner_exception", error)
    if (trouble := disk_error_text(cause)) is not None:
        temporary = tempfile.gettempdir()
        places = dict.fromkeys((os.environ.get("TORCHINDUCTOR_CACHE_DIR", temporary), temporary))
        return RunError(
            f"the model cannot be compiled ({trouble} in {' or '.join(places)}); try TMPDIR=FOLDER, with a folder that"
            " has room and can be written"
        )
    reason = next((line.strip() for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
    return RunError(f"the model cannot be compiled ({type(cause).__name__}: {reason}); try hardware.compile=false")
