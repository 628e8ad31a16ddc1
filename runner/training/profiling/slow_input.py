"""The warning of a run that waited longer for data than it computed, with the key to change."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runner.records.step_time import StepTime
    from runner.training.parts import Parts

SHARE = 0.5
"""Of the time of a step, from which on its data dominate it."""

ENOUGH = 10
"""Timed steps below which one hiccup of the machine would decide."""


def name_slow_input(parts: Parts, found: StepTime | None) -> tuple[str, ...]:
    """The note on a run whose timed steps were dominated by their data; none where no key of it would help."""
    if found is None or found.steps < ENOUGH or found.shares["data"] < SHARE:
        return ()
    cure = _cure(parts)
    if cure is None:
        return ()
    share = found.shares["data"]
    return (
        f"data take {100 * share:.0f} % of a step ({1e3 * share * found.seconds:.3g} of {1e3 * found.seconds:.3g} ms,"
        f" {found.steps} steps timed); {cure}",
    )


def _cure(parts: Parts) -> str | None:
    feed, augment = parts.feed, parts.plan.semantic.data.augment
    if feed.decodes:
        return "files are decoded anew for each batch: data.cache=disk or data.cache=memory keeps what was decoded"
    colours = [key for key in ("color_jitter", "hue") if getattr(augment, key)]
    if colours:
        return f"data.augment.{colours[0]}=0, which is another recipe, leaves out the dearest change"
    if augment.random_resized_crop:
        return "data.augment.random_resized_crop=false, which is another recipe, leaves out the dearest change"
    # Moving or only gathering pixels that are held already: no key makes that cheaper.
    return None
