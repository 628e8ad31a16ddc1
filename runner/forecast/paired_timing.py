"""Paired timing of updates in two precisions: the gain of a 16-bit type for this model on this machine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from runner.autotune.rehearsal import one_share, rehearsed_alone
from runner.config.rules.batches import affordable

if TYPE_CHECKING:
    from runner.planning.plan import Plan

_SECONDS = 0.6
"""After which no further round begins."""
_LEAST, _MOST = 3, 40
"""Rounds."""


def step_seconds_in(plan: Plan, dtypes: Sequence[str], *, image_seconds: float = 0.0) -> dict[str, float]:
    """The least seconds of an update of ``plan`` in each of ``dtypes``, on made-up images, in turns against drifts.

    Of fewer images where a micro-batch of them, at ``image_seconds`` each, would take longer than the plan allows.

    Raises:
        RequestError: the parts cannot be had as asked.
        RunError: there is no memory for one example.
    """
    seconds_each = image_seconds * len(dtypes) * (1 + _LEAST)
    seconds = plan.performance.probe_seconds
    images = affordable(plan.performance.batch_size, seconds_each=seconds_each, seconds=seconds)
    with ExitStack() as stack:
        rehearsals = {dtype: stack.enter_context(rehearsed_alone(_in(plan, dtype, images))) for dtype in dtypes}
        for rehearsal in rehearsals.values():
            rehearsal.update()
        best = dict.fromkeys(dtypes, float("inf"))
        begun = time.perf_counter()
        for done in range(_MOST):
            spent = time.perf_counter() - begun
            if spent > (_SECONDS if done >= _LEAST else seconds) and done:
                break
            for dtype, rehearsal in rehearsals.items():
                best[dtype] = min(best[dtype], rehearsal.update())
    return best


def _in(plan: Plan, dtype: str, images: int) -> Plan:
    """A micro-batch of ``images`` of one process of ``plan`` in another type."""
    return one_share(plan, images, 1).evolve({"semantic.precision.dtype": dtype})
