"""Precision and memory format for a model on this machine: the table from which to pick a recipe."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from runner.bench.named_models import FLOAT32, SIXTEEN_BITS, comparisons
from runner.bench.paired_benchmark import Contender
from runner.bench.section import Section
from runner.bench.settings import Settings

FIRST = Contender(
    name="fp32, contiguous", module="through_runner", options=("hardware.channels_last=false",), tolerance=FLOAT32
)
AGAIN = dataclasses.replace(FIRST, name="fp32, contiguous, again")
RECIPES = (
    dataclasses.replace(FIRST, name="fp32, channels_last", options=("hardware.channels_last=true",)),
    *(
        Contender(
            name=f"{short}, {layout}",
            module="through_runner",
            options=(f"precision={short}", f"hardware.channels_last={str(layout == 'channels_last').lower()}"),
            tolerance=SIXTEEN_BITS,
        )
        for short in ("bf16", "fp16")
        for layout in ("contiguous", "channels_last")
    ),
)
_OPEN = "hardware.channels_last=null"
_AUTO = Contender(
    name="precision=auto", module="through_runner", options=("precision=auto", _OPEN), tolerance=SIXTEEN_BITS
)
_FORMATS = tuple(
    Contender(
        name=f"{short}, hardware=auto",
        module="through_runner",
        options=(f"precision={short}", _OPEN),
        tolerance=SIXTEEN_BITS,
    )
    for short in ("fp32", "bf16")
)
"""A named type, and the memory format left to the machine."""


def measure(settings: Settings) -> Iterator[Section]:
    """One section for each of ``settings.models``.

    Raises:
        RequestError: a model is not named as ``parse_model`` reads it.
    """
    for comparison in comparisons(settings, "recipes", (FIRST, AGAIN, *RECIPES, *_FORMATS, _AUTO)):
        yield comparison.section(
            "recipes",
            title="Recipes",
            about="The runner throughout; what differs is the precision and the memory format.  Before any time was"
            " taken, the losses of three updates agreed: to 3e-4 between the float32 rows, where twice the learning"
            " rate shows as 9e-4 and more, and to 5 % with 16 bits; what those cost in accuracy is a question for"
            " `sweep=precision`.",
            ours=_AUTO,
            control=AGAIN,
        )
