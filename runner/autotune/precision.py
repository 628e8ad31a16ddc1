"""The type and memory format with the fastest updates on this machine, among those that are left open."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.autotune.rehearsal import FEW, Rehearsal, first_look, one_share, rehearsed_alone
from runner.config.choice import Choice
from runner.config.rules.batches import affordable

if TYPE_CHECKING:
    from runner.planning.device import Device
    from runner.planning.plan import Plan

_SECONDS = 4.0
"""No further round begins after this time."""
_LEAST_ROUNDS = 3
_MOST_ROUNDS = 60
_CLEAR_ROUNDS = 6
"""A candidate that was slower than the fastest in each of so many rounds is slower: by chance, one in 64 would be."""
_STEP_SECONDS = 1.5
"""A probed update that would take longer gets fewer images, so that a large model does not keep the run waiting.  Fewer
than the run's favour one memory format over the other, so only what would take far too long is cut."""
_HOPELESS = ((3, 1.15), (2, 1.5))
"""After so many rounds, a candidate whose best took this many times the fastest's best is not timed again."""
_SHARE_OF_MEMORY = 0.25
"""Most of the device's memory that the weights of all candidates, with gradients and optimizer, may take."""
_MARGIN = 1.01
"""What is tried later has to be faster by this much: noise alone must neither cost bits nor choose other roundings."""
_SHARE_OF_RUN = 0.02
"""Most of a run's updates, beyond ``_LEAST_ROUNDS``, that timing may take where only the memory format is open."""

Timings = Sequence[float]
"""Seconds of an update in each round that a candidate took part in, from the first round on; empty: out of memory."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What is chosen among."""

    dtype: str
    """float32, bfloat16 or float16."""
    channels_last: bool

    def __str__(self) -> str:
        return f"{self.dtype} {'channels_last' if self.channels_last else 'contiguous'}"


def open_candidates(device: Device, channels_last: bool | None, dtype: str | None = None) -> list[Candidate]:
    """What is worth trying on ``device``, the first of equals first.

    float16 is not among them on a CPU: what it gains in memory traffic it loses in rounding by software
    (``half_on_cpu``).  On a GPU without native arithmetic a 16-bit type is emulated or runs on the slow units.

    Args:
        device: where the run happens.
        channels_last: the format that was asked for; None for either.
        dtype: the type that was asked for; None for any.
    """
    dtypes = ["float32"] if dtype is None else [dtype]
    if dtype is None and (device.kind == "cpu" or device.native.bf16):
        dtypes.append("bfloat16")
    if dtype is None and device.kind != "cpu" and device.native.fp16:
        dtypes.append("float16")
    formats = [True, False] if channels_last is None else [channels_last]
    return [Candidate(dtype=dtype, channels_last=chosen) for dtype in dtypes for chosen in formats]


def fastest_candidate(
    plan: Plan, tried: Sequence[Candidate], *, memory_bytes: int
) -> tuple[Candidate, str | None] | None:
    """One of ``tried`` and the times, measured by updates of ``plan`` on random images, in turns against drifts.

    No times where one alone is left: the memory format is not tried with a model to which it does not matter.  None
    for a model of which so many would not fit into the ``memory_bytes`` of the device side by side, or that takes
    longer than the measurement may.

    Raises:
        RequestError: the model, optimizer, schedule or per-example gradients cannot be had as asked.
        RunError: there is no memory for one example.
    """
    plan = plan.uncompiled()
    each, convolves = first_look(_variant(plan, tried[0]), clock=_clock(plan))
    if not convolves:
        tried = [candidate for candidate in tried if candidate.channels_last == tried[0].channels_last]
    if len(tried) == 1:
        return tried[0], None
    # each candidate warms up and takes part in the least rounds
    seconds = plan.performance.probe_seconds / (len(tried) * (1 + _LEAST_ROUNDS))
    batch = plan.performance.batch_size
    few = min(batch, FEW)
    if few * each > seconds:
        return None
    images = affordable(batch, seconds_each=each, seconds=min(_STEP_SECONDS, seconds), least=few)
    probed = one_share(plan, images, 1)
    with ExitStack() as stack:
        first = stack.enter_context(_open(probed, tried[0]))
        # found once: the same way to per-example gradients serves all
        probed = _with_way(probed, first)
        if first.state_bytes * len(tried) > _SHARE_OF_MEMORY * memory_bytes:
            return None
        rehearsals = {tried[0]: first}
        for candidate in tried[1:]:
            rehearsals[candidate] = stack.enter_context(_open(probed, candidate))
        updates = _updates(plan, probed) if len({candidate.dtype for candidate in tried}) == 1 else None
        samples = _measure(rehearsals, updates, min(_SECONDS, plan.performance.probe_seconds))
    times = ", ".join(
        f"{candidate} {1e3 * statistics.median(taken):.3g} ms" if taken else f"{candidate} out of memory"
        for candidate, taken in samples.items()
    )
    rounds = max(len(taken) for taken in samples.values())
    return _choose(samples), f"{times} for an update by {probed.performance.batch_size} random images ({rounds} rounds)"


def _open(plan: Plan, candidate: Candidate) -> AbstractContextManager[Rehearsal]:
    return rehearsed_alone(_variant(plan, candidate), clock=_clock(plan))


def _clock(plan: Plan) -> Callable[[], float]:
    """That of the processor's work where a single thread does it.

    Other programs on the machine, cells of the same sweep for example, then disturb it least.
    """
    alone = plan.performance.device == "cpu" and plan.performance.threads == 1
    return time.process_time if alone else time.perf_counter


def _variant(plan: Plan, candidate: Candidate) -> Plan:
    return plan.evolve(
        {"semantic.precision.dtype": candidate.dtype, "performance.channels_last": candidate.channels_last}
    )


def _with_way(plan: Plan, rehearsal: Rehearsal) -> Plan:
    way = rehearsal.plan.performance.grad_sample
    return plan if way is None else plan.with_grad_sample(Choice(way, "measurement", "as probed"))


def _updates(plan: Plan, probed: Plan) -> float:
    """The updates of ``plan``, counted in those of ``probed``."""
    share = plan.semantic.steps * plan.semantic.logical_batch / plan.performance.processes
    return share / probed.performance.batch_size


def _measure(rehearsals: dict[Candidate, Rehearsal], updates: float | None, seconds: float) -> dict[Candidate, Timings]:
    """Time updates in turns, there and back (A B B A), until one candidate is left or the ``seconds`` are over.

    ``updates`` are those of the run, of which a small share may be spent; None for the whole time.
    """
    for rehearsal in rehearsals.values():
        rehearsal.update()
    left = [candidate for candidate, rehearsal in rehearsals.items() if rehearsal.fits]
    samples: dict[Candidate, list[float]] = {candidate: [] for candidate in rehearsals}
    start = time.perf_counter()
    for finished in range(1, _MOST_ROUNDS + 1):
        for candidate in left if finished % 2 else reversed(left):
            samples[candidate].append(rehearsals[candidate].update())
        left = _still_in(left, samples)
        if len(left) < 2:
            break
        worth = math.inf if updates is None else _SHARE_OF_RUN * updates * statistics.median(samples[left[0]])
        if finished >= _LEAST_ROUNDS and time.perf_counter() - start > min(seconds, worth):
            break
    return dict(samples)


def _still_in(left: Sequence[Candidate], samples: Mapping[Candidate, Timings]) -> list[Candidate]:
    """Those of ``left``, which were all in each round so far, that may yet be the fastest."""
    if not left:
        return []
    fastest = min(left, key=lambda candidate: statistics.median(samples[candidate]))
    rounds, least = len(samples[fastest]), min(samples[fastest])
    limit = next((factor for needed, factor in _HOPELESS if rounds >= needed), math.inf)

    def may_win(candidate: Candidate) -> bool:
        pairs = zip(samples[candidate], samples[fastest], strict=True)
        clear = rounds >= _CLEAR_ROUNDS and all(mine > best for mine, best in pairs)
        # what disturbs an update only ever adds to it, so one good update saves a candidate
        return not clear and min(samples[candidate]) <= limit * least

    return [candidate for candidate in left if may_win(candidate)]


def _choose(samples: Mapping[Candidate, Timings]) -> Candidate:
    """The fastest; of those that are as good as equal, the one that was tried first."""
    chosen, best = next(iter(samples.items()))
    for candidate, taken in samples.items():
        if taken and (not best or _is_faster(taken, best)):
            chosen, best = candidate, taken
    return chosen


def _is_faster(taken: Timings, best: Timings) -> bool:
    """By the median of paired ratios, because a shared machine's speed drifts from round to round.

    And in its best round, because where most rounds are disturbed a median says little.
    """
    ratio = statistics.median(mine / other for mine, other in zip(taken, best, strict=False))
    return ratio * _MARGIN < 1.0 and min(taken) < min(best)
