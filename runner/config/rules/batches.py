"""The split of an update's examples over processes and micro-batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.errors import RequestError

if TYPE_CHECKING:
    from runner.config.schema import RunConfig

_UNTIL_MEASURED = 64
"""Most examples in a micro-batch of ``data.batch_size=auto`` before memory has been measured."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """``logical`` = ``batch_size`` x ``accumulation`` x processes, exactly."""

    logical: int
    """Examples per update; what the recipe says, whatever the split."""
    batch_size: int
    """Examples per process that go through the model at once."""
    accumulation: int
    """Micro-batches per process and update."""

    def into(self, batch_size: int) -> Split:
        """The same update in micro-batches of ``batch_size``, a divisor of a process's share."""
        share = self.batch_size * self.accumulation
        return Split(logical=self.logical, batch_size=batch_size, accumulation=share // batch_size)


def split_batch(config: RunConfig, processes: int) -> Split:
    """The split that ``config`` asks for; with ``data.batch_size=auto`` one to begin with.

    Raises:
        RequestError: what is given contradicts itself.
    """
    micro, steps = config.data.batch_size, config.trainer.accumulation_steps
    whole = config.trainer.effective_batch_size
    if whole is None:
        assert isinstance(micro, int), "the rules ask for a product to be split"
        share = micro * (steps or 1)
    else:
        share = whole // processes
        if share * processes != whole:
            raise RequestError("trainer.effective_batch_size", whole, f"a multiple of the {processes} processes")
    if isinstance(micro, str):
        micro = largest_divisor(share, at_most=_UNTIL_MEASURED)
    elif micro * (share // micro) != share:
        # either may come from an experiment: what was typed is not to be blamed for what was not
        part = f"data.batch_size={micro}" + (f" x {processes} processes" if processes > 1 else "")
        raise RequestError(
            "trainer.effective_batch_size",
            whole,
            f"a multiple of {part}, or beside it data.batch_size={largest_divisor(share, at_most=micro)}, which divides"
            " it, or data.batch_size=auto",
        )
    elif steps is not None and micro * steps != share:
        raise RequestError(
            "trainer.effective_batch_size",
            whole,
            f"data.batch_size x trainer.accumulation_steps x processes = {micro * steps * processes}, or one of them"
            " null",
        )
    if config.hardware.micro_batch is not None:
        micro = largest_divisor(share, at_most=min(micro, config.hardware.micro_batch))
    return Split(logical=share * processes, batch_size=micro, accumulation=share // micro)


def divisors(number: int) -> list[int]:
    """From 1 to ``number``."""
    small = [each for each in range(1, int(number**0.5) + 1) if number % each == 0]
    return sorted({*small, *(number // each for each in small)})


def largest_divisor(number: int, *, at_most: int) -> int:
    """Of ``number``; 1 is one of any."""
    return max(each for each in divisors(number) if each <= at_most)


def _auto_needs_a_product(config: RunConfig) -> None:
    if config.data.batch_size != "auto":
        return
    if config.trainer.effective_batch_size is None:
        raise RequestError(
            "trainer.effective_batch_size", None, "a number with data.batch_size=auto, which finds how to split it"
        )
    if config.trainer.accumulation_steps is not None:
        raise RequestError(
            "trainer.accumulation_steps",
            config.trainer.accumulation_steps,
            "null with data.batch_size=auto, which works it out",
        )


def _auto_is_measured(config: RunConfig) -> None:
    if config.data.batch_size == "auto" and config.deterministic:
        raise RequestError("data.batch_size", "auto", "a number with deterministic=true, where nothing is measured")


def _split_is_exact(config: RunConfig) -> None:
    if config.hardware.processes is not None:  # otherwise the plan asks, which knows how many
        split_batch(config, config.hardware.processes)


def _scaling_has_a_reference(config: RunConfig) -> None:
    optimizer = config.optimizer
    if optimizer.scale_lr != "none" and optimizer.reference_batch_size is None:
        raise RequestError(
            "optimizer.reference_batch_size",
            None,
            f"the effective batch for which optimizer.lr is right, with optimizer.scale_lr={optimizer.scale_lr}",
        )
    if optimizer.scale_lr == "none" and optimizer.reference_batch_size is not None:
        raise RequestError("optimizer.scale_lr", "none", "linear or sqrt with optimizer.reference_batch_size")


BATCH_RELATIONS = (_auto_needs_a_product, _auto_is_measured, _split_is_exact, _scaling_has_a_reference)
"""Rules across keys about the size of an update."""


def affordable(count: int, *, seconds_each: float, seconds: float, least: int = 1) -> int:
    """As many of ``count`` examples of ``seconds_each`` as take ``seconds``; ``least``, whatever those take."""
    return min(count, max(least, int(seconds / max(seconds_each, 1e-9))))
