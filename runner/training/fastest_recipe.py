"""``precision=auto``: which type and memory format make an update of this model fastest on this machine."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.training.probe import Stepper, one_share, stepping

if TYPE_CHECKING:
    from runner.plan.device import Device
    from runner.plan.plan import Plan

_SECONDS = 1.0
"""No further round begins after this time."""
_LEAST_ROUNDS = 3
_MOST_ROUNDS = 60
_STEP_SECONDS = 0.25
"""A probed update that would take longer gets fewer images, so that a large model does not keep the run waiting."""
_FEW_IMAGES = 4
_HOPELESS = 1.15
"""A recipe whose best of ``_LEAST_ROUNDS`` took this many times that of the fastest is not timed again."""
_HOPELESS_AT_ONCE = 1.5
"""The same after the first round: one disturbed update shall not decide."""
_SHARE_OF_MEMORY = 0.25
"""Most of the device's memory that the weights of all candidates, with gradients and optimizer, may take."""
_MARGIN = 1.02
"""A 16-bit type has to be faster by this much: noise alone must not cost bits, and less is not worth them."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What is chosen among."""

    dtype: str
    """float32, bfloat16 or float16."""
    channels_last: bool

    def __str__(self) -> str:
        return f"{self.dtype} {'channels_last' if self.channels_last else 'contiguous'}"


def recipes(device: Device, channels_last: bool | None) -> list[Recipe]:
    """What is worth trying on ``device``, the first of equals first.

    float16 is not among them on a CPU: what it gains in memory traffic it loses in rounding by software
    (``half_on_cpu``).  On a GPU without native arithmetic a 16-bit type is emulated or runs on the slow units.

    Args:
        device: where the run happens.
        channels_last: the format that was asked for; None for either.
    """
    dtypes = ["float32"]
    if device.kind == "cpu" or device.native_bf16:
        dtypes.append("bfloat16")
    if device.kind != "cpu" and device.native_fp16:
        dtypes.append("float16")
    formats = [True, False] if channels_last is None else [channels_last]
    return [Recipe(dtype=dtype, channels_last=chosen) for dtype in dtypes for chosen in formats]


def fastest_recipe(plan: Plan, tried: Sequence[Recipe], *, memory_bytes: int) -> tuple[Recipe, str] | None:
    """One of ``tried`` and the reason, measured by updates of ``plan`` on random images, in turns against drifts.

    None for a model of which so many would not fit into the ``memory_bytes`` of the device side by side.

    Raises:
        RequestError: the model, optimizer, schedule or per-example gradients cannot be had as asked.
        RunError: there is no memory for one example.
    """
    with ExitStack() as stack:
        probed = _shortened(one_share(plan, plan.performance.batch_size, 1), tried[0])
        first = stack.enter_context(_open(probed, tried[0]))
        # found once: the same way to per-example gradients serves all
        probed = _with_way(probed, first)
        if first.state_bytes * len(tried) > _SHARE_OF_MEMORY * memory_bytes:
            return None
        steppers = {tried[0]: first}
        for recipe in tried[1:]:
            if first.convolves or recipe.channels_last == tried[0].channels_last:
                steppers[recipe] = stack.enter_context(_open(probed, recipe))
        best = _measure(steppers)
    chosen = _choose(best)
    told = ", ".join(
        f"{recipe} {1e3 * seconds:.3g} ms" if math.isfinite(seconds) else f"{recipe} out of memory"
        for recipe, seconds in best.items()
    )
    return chosen, f"{told} for an update by {probed.performance.batch_size} random images"


def _open(plan: Plan, recipe: Recipe) -> AbstractContextManager[Stepper]:
    """``plan`` by ``recipe``, to be stepped.

    The clock is that of the processor's work where a single thread does it: other programs on the machine, cells of the
    same sweep for example, then disturb it least.
    """
    performance = plan.performance
    alone = performance.device == "cpu" and performance.threads == 1
    return stepping(_variant(plan, recipe), clock=time.process_time if alone else time.perf_counter)


def _variant(plan: Plan, recipe: Recipe) -> Plan:
    semantic = plan.semantic
    precision = dataclasses.replace(semantic.precision, dtype=recipe.dtype)
    return dataclasses.replace(
        plan,
        semantic=dataclasses.replace(semantic, precision=precision),
        performance=dataclasses.replace(plan.performance, channels_last=recipe.channels_last),
    )


def _with_way(plan: Plan, stepper: Stepper) -> Plan:
    way = stepper.plan.performance.grad_sample
    return plan if way is None else plan.with_grad_sample(way, "as probed")


def _shortened(plan: Plan, recipe: Recipe) -> Plan:
    """``plan`` with as many images in an update as take ``_STEP_SECONDS``, judged by an update with few."""
    batch = plan.performance.batch_size
    if batch <= _FEW_IMAGES:
        return plan
    with _open(one_share(plan, _FEW_IMAGES, 1), recipe) as stepper:
        stepper.step()
        seconds = stepper.step()
    affordable = int(_STEP_SECONDS / seconds * _FEW_IMAGES)
    return one_share(plan, max(_FEW_IMAGES, min(batch, affordable)), 1)


def _measure(steppers: dict[Recipe, Stepper]) -> dict[Recipe, float]:
    """The least seconds of an update by each recipe; infinity where the memory did not suffice."""
    best = dict.fromkeys(steppers, math.inf)
    for stepper in steppers.values():
        stepper.step()
    left = {recipe: stepper for recipe, stepper in steppers.items() if stepper.fits}
    start = time.perf_counter()
    for finished in range(1, _MOST_ROUNDS + 1):
        for recipe, stepper in left.items():
            best[recipe] = min(best[recipe], stepper.step())
        limit = min(best.values()) * (_HOPELESS if finished >= _LEAST_ROUNDS else _HOPELESS_AT_ONCE)
        left = {recipe: stepper for recipe, stepper in left.items() if best[recipe] <= limit}
        if len(left) < 2 or (finished >= _LEAST_ROUNDS and time.perf_counter() - start > _SECONDS):
            break
    return best


def _choose(best: dict[Recipe, float]) -> Recipe:
    """The fastest; of types that are as good as equal, the one that was tried first."""
    chosen = next(iter(best))
    for recipe, seconds in best.items():
        margin = 1.0 if recipe.dtype == chosen.dtype else _MARGIN
        if seconds * margin < best[chosen]:
            chosen = recipe
    return chosen
