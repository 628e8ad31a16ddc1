"""The time of a run's steps by phase."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Phase = Literal["data", "forward", "backward", "clip_and_noise", "waiting", "optimizer", "other"]
"""``data``: examples gathered, augmented, on the device.  ``clip_and_noise``: what becomes of gradients before the
update, per example under DP.  ``waiting``: for the other processes, their gradients included.  ``other``: the learning
rate, seeds, sums of losses."""

PHASES: tuple[Phase, ...] = get_args(Phase)


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """The mean over some steps of a run; evaluation, records and checkpoints are no part of a step."""

    steps: int
    """Steps that were timed, in each process."""
    seconds: float
    """Of a step."""
    shares: Mapping[str, float]
    """Phase -> its share of that, in [0, 1]."""

    @classmethod
    def of(cls, seconds: Mapping[Phase, float], *, steps: int) -> StepTime:
        """From the sum of each phase over ``steps`` steps."""
        whole = sum(seconds.values())
        return cls(steps=steps, seconds=whole / steps, shares={phase: seconds[phase] / whole for phase in PHASES})

    @classmethod
    def mean(cls, found: Sequence[StepTime]) -> StepTime:
        """Over the processes of a run."""
        seconds = [one.seconds for one in found]
        return cls(
            steps=found[0].steps,
            seconds=sum(seconds) / len(found),
            shares={
                phase: sum(one.shares[phase] * one.seconds for one in found) / sum(seconds) for phase in found[0].shares
            },
        )
