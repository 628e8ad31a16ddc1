"""The mean gradient whose forward and backward passes are launched at once, as a CUDA graph.

A small model leaves a GPU idle while the host launches one kernel after another; recorded once, a micro-batch's kernels
go to the device in a single launch (PyTorch's "CUDA semantics", section CUDA Graphs).  What is recorded is what is the
same each time: forward, loss and backward of a whole micro-batch.  What depends on the update stays outside and runs
as ever: data, the learning rate, the sum over processes, clipping, the check for what is not finite, the optimizer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from runner.error_texts import is_out_of_memory
from runner.errors import RunError
from runner.internals.foreach import zero_
from runner.training.gradients.mean_rule import MeanRule
from runner.training.profiling.phase_timer import unobserved
from runner.training.running_metrics import Answers, UnscoredLogits

if TYPE_CHECKING:
    from runner.training.gradients.micro_batch_size import MicroBatchSizes

_WARM_UPS = 3
"""Passes before the recording, in which libraries choose their kernels and allocate what they keep."""


class GraphedMeanRule(MeanRule):
    """``MeanRule`` that replays whole micro-batches and adds up all others as they come."""

    def __init__(self, model: torch.nn.Module, *, sizes: MicroBatchSizes, **same: Any) -> None:
        """``sizes`` says what a whole micro-batch is; the other arguments are those of ``MeanRule``."""
        super().__init__(model, **same)
        self._sizes = sizes
        self._buffers = list(model.buffers())
        self._gradients: list[torch.Tensor | None] | None = None
        self._recorded: _Recorded | None = None

    def forget(self) -> None:
        """Zeros in place, where there is a recording: it adds to the gradients at the addresses that it knows."""
        if self._gradients is None:
            super().forget()
            return
        zero_([gradient for gradient in self._gradients if gradient is not None])
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient

    def add(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, Answers]:
        """See ``GradientRule.add``.

        Raises:
            RunError: the model cannot be recorded.
        """
        if len(labels) != self._sizes["training"]:
            return super().add(images, labels)
        self._enter("forward")
        if self._recorded is None or self._recorded.images.shape != images.shape:
            self._recorded = None  # the memory of the one before is needed
            self._recorded = self._record(images, labels)
        recorded = self._recorded
        recorded.images.copy_(images)
        recorded.labels.copy_(labels)
        recorded.replay()
        # BatchNorm's statistics have moved where autograd could not see it
        torch.autograd.graph.increment_version(self._buffers)
        # the next replay writes to the same memory
        return recorded.total.clone(), UnscoredLogits(recorded.logits.clone(), labels)

    def _record(self, images: torch.Tensor, labels: torch.Tensor) -> _Recorded:
        """A recording that leaves gradients, buffers and random state as they are."""
        images, labels = images.clone(memory_format=torch.preserve_format), labels.clone()
        before = [parameter.grad for parameter in self._parameters]
        buffers = [buffer.clone() for buffer in self._buffers]

        def run() -> tuple[torch.Tensor, torch.Tensor]:
            return self.forward_backward(images, labels, enter=unobserved)

        def warm_up() -> None:
            for parameter in self._parameters:
                parameter.grad = None
            run()

        try:
            run_on_side_stream(warm_up, images.device, times=_WARM_UPS)
            for buffer, value in zip(self._buffers, buffers, strict=True):
                buffer.copy_(value)
            # a parameter that the loss does not depend on keeps having no gradient, so that no optimizer moves it
            self._gradients = [None if p.grad is None else torch.zeros_like(p) for p in self._parameters]
            for parameter, gradient, earlier in zip(self._parameters, self._gradients, before, strict=True):
                parameter.grad = gradient
                if gradient is not None and earlier is not None:
                    gradient.copy_(earlier)
            (total, logits), replay = record(run)
        except RuntimeError as error:
            if isinstance(error, RunError) or is_out_of_memory(error):
                raise
            reason = str(error).splitlines()[0]
            raise RunError(
                f"the model cannot be recorded as a CUDA graph ({reason}); try hardware.cuda_graphs=false"
            ) from error
        return _Recorded(images, labels, total, logits, replay)


class _Recorded:
    """A recording, and the memory that it reads and writes."""

    def __init__(
        self,
        images: torch.Tensor,
        labels: torch.Tensor,
        total: torch.Tensor,
        logits: torch.Tensor,
        replay: Callable[[], None],
    ) -> None:
        self.images = images
        self.labels = labels
        self.total = total
        self.logits = logits
        self.replay = replay


def run_on_side_stream(run: Callable[[], None], device: torch.device, *, times: int) -> None:
    """``run`` on a stream of its own, as before every recording, with the random state put back at the end.

    On the default stream the nodes of autograd would be tied to it, which a recording may not wait for.
    """
    state = torch.cuda.get_rng_state(device)
    aside = torch.cuda.Stream(device)
    aside.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(aside):
        for _ in range(times):
            run()
    torch.cuda.current_stream(device).wait_stream(aside)
    torch.cuda.set_rng_state(state, device)


def record(
    run: Callable[[], tuple[torch.Tensor, torch.Tensor]],
) -> tuple[tuple[torch.Tensor, torch.Tensor], Callable[[], None]]:
    """What ``run`` gives, in memory that each call of the second result fills anew.

    A replay draws from the device's generator as it stands, so that dropout stays a function of the step.
    """
    graph = torch.cuda.CUDAGraph()
    # other threads, which decode images or write records, may use the device meanwhile
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        outputs = run()
    return outputs, graph.replay
