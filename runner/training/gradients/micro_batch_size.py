"""The micro-batch size: as planned, halved each time memory runs out.

A smaller micro-batch splits the same logical batch into more pieces, so what is computed stays the same to rounding.
What fits is remembered for the rest of the run, in its checkpoints too.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from runner.errors import RunError

if TYPE_CHECKING:
    from runner.planning.plan import PerformancePlan
    from runner.training.distributed.world import World

Pass = Literal["training", "evaluation"]


@dataclass(frozen=True, kw_only=True)
class Halving:
    """One time that memory ran out, and what was used from then on."""

    step: int
    """Update, from 1, that was being made or had just been made."""
    phase: Pass
    batch_size: int
    """Examples per process that went through the model at once from then on."""
    accumulation_steps: int | None
    """Micro-batches per process and update from then on; None in evaluation."""

    def describe(self) -> str:
        """One line for the user."""
        more = "" if self.accumulation_steps is None else f", {self.accumulation_steps} for each update"
        return (
            f"step {self.step}: out of memory in {self.phase}; from here on batches of {self.batch_size} examples a"
            f" process{more}: the same work in smaller pieces"
        )


class MicroBatchSizes:
    """The sizes in use; equal in every process."""

    def __init__(self, plan: PerformancePlan) -> None:
        self._asked = {"training": plan.batch_size, "evaluation": plan.eval_batch_size}
        self._sizes = dict(self._asked)
        self._share = plan.batch_size * plan.accumulation_steps
        self.halvings: list[Halving] = []
        """In their order, those before an interruption included."""
        self.step = 0
        """Update, from 1, that is being made or was made last."""

    def __getitem__(self, phase: Pass) -> int:
        """Examples per process that go through the model at once in ``phase``."""
        return self._sizes[phase]

    def halve(self, phase: Pass, tried: int) -> None:
        """Go on with half of ``tried``, the most examples that went through the model at once when memory ran out.

        Raises:
            RunError: that was one example.
        """
        if tried <= 1:
            raise RunError(
                out_of_memory_message(f"step {self.step}: out of memory in {phase} with one example at a time")
            )
        self._set(phase, tried // 2)
        # What the failed attempt left in reference cycles and in the caching allocator is needed now.
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()

    @contextlib.contextmanager
    def alike(self, phase: Pass, world: World) -> Iterator[None]:
        """Let each process halve by itself inside this context; all end it with the smallest size, or the same error.

        Raises:
            RunError: there was no memory for one example in one of the processes.
        """
        refusal = None
        try:
            yield
        except RunError as error:
            refusal = error
        ends = world.gather((self._sizes[phase], refusal))
        if refusals := [refusal for _, refusal in ends if refusal is not None]:
            raise refusals[0]
        if (smallest := min(size for size, _ in ends)) < self._sizes[phase]:
            self._set(phase, smallest)

    def _set(self, phase: Pass, size: int) -> None:
        self._sizes[phase] = size
        accumulation = -(-self._share // size) if phase == "training" else None
        self.halvings.append(Halving(step=self.step, phase=phase, batch_size=size, accumulation_steps=accumulation))

    def state_dict(self) -> dict[str, Any]:
        """What fits, and for which request that was found."""
        halvings = [vars(halving) for halving in self.halvings]
        return {"asked": self._asked, "sizes": self._sizes, "halvings": halvings}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the sizes that fitted before, unless others are asked for now."""
        self.halvings = [Halving(**halving) for halving in state["halvings"]]
        if state["asked"] == self._asked:
            self._sizes = dict(state["sizes"])


def out_of_memory_message(what: str) -> str:
    """``what`` happened and the cures, in one line."""
    return (
        f"{what}; no update was lost; try a smaller model or data.image_size, precision=bf16, a smaller"
        " data.batch_size with more trainer.accumulation_steps, or a machine with more memory"
    )
