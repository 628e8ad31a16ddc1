"""The limits that the runner has to keep, each checked against the raw samples of all sections."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from runner.bench.paired_ratios import Ratio, paired_difference, paired_ratio

COLUMNS = ("asked", "limit", "measured", "95 % interval", "the same against itself", "kept")


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """One limit."""

    what: str
    section: str
    of: str
    """The contender in question."""
    over: str | tuple[str, ...]
    """The contender that it is compared with; the fastest of several."""
    limit: float
    at_least: bool = False
    """Whether ``limit`` is the least; else it is the most."""
    per: Literal["ratio", "us more", "s more"] = "ratio"
    value: str = "seconds"
    """Field of the samples."""
    control: tuple[str, str] | None = None
    """Two contenders that are the same."""
    on_gpu: bool = False
    """Whether it needs a machine with a GPU, and so has a row without a measurement."""


_FILES = ("ImageFolder + DataLoader again", "ImageFolder + DataLoader")
_FP32 = ("fp32, contiguous, again", "fp32, contiguous")
_BARE = ("bare loop again", "bare loop")
_HAND = ("by hand, bf16, again", "by hand, bf16")
_TINY = "loop_tiny_mlp"
_FORMATS = {short: (f"{short}, contiguous", f"{short}, channels_last") for short in ("fp32", "bf16", "fp16")}
ASKED = (
    Requirement(
        what="tiny MLP, us an update more than the bare loop",
        section=_TINY,
        of="runner",
        over="bare loop",
        limit=60.0,
        per="us more",
        control=_BARE,
    ),
    Requirement(
        what="tiny MLP, time over the bare loop",
        section=_TINY,
        of="runner",
        over="bare loop",
        limit=1.15,
        control=_BARE,
    ),
    Requirement(
        what="small_cnn, time over the bare loop",
        section="loop_small_cnn",
        of="runner",
        over="bare loop",
        limit=1.02,
        control=_BARE,
    ),
    Requirement(
        what="ResNet-18, time over the bare loop",
        section="loop_resnet18",
        of="runner",
        over="bare loop",
        limit=1.02,
        control=_BARE,
    ),
    Requirement(
        what="tiny MLP, peak memory over the bare loop's",
        section=_TINY,
        of="runner",
        over="bare loop",
        limit=1.02,
        value="peak_bytes",
        control=_BARE,
    ),
    Requirement(
        what="tiny MLP, updates a second over Lightning as shipped",
        section=_TINY,
        of="Lightning",
        over="runner",
        limit=2.9,
        at_least=True,
        control=_BARE,
    ),
    Requirement(
        what="the same, Lightning with its logging",
        section=_TINY,
        of="Lightning with logging",
        over="runner",
        limit=6.0,
        at_least=True,
        control=_BARE,
    ),
    Requirement(
        what="the same, Lightning with the same input",
        section=_TINY,
        of="Lightning, same input",
        over="runner",
        limit=2.0,
        at_least=True,
        control=_BARE,
    ),
    Requirement(
        what="tiny MLP, updates a second over Accelerate as shipped",
        section=_TINY,
        of="Accelerate",
        over="runner",
        limit=2.4,
        at_least=True,
        control=_BARE,
    ),
    Requirement(
        what="the same, Accelerate with the same input",
        section=_TINY,
        of="Accelerate, same input",
        over="runner",
        limit=1.8,
        at_least=True,
        control=_BARE,
    ),
    Requirement(
        what="small JPEG files, images per CPU-second over ImageFolder + DataLoader",
        section="input_small",
        of="runner",
        over=_FILES[1],
        limit=15.0,
        at_least=True,
        value="images_per_cpu_second",
        control=_FILES,
    ),
    Requirement(
        what="photos at 224 px, the same",
        section="input_photos",
        of="runner",
        over=_FILES[1],
        limit=3.5,
        at_least=True,
        value="images_per_cpu_second",
        control=_FILES,
    ),
    *(
        Requirement(
            what=f"precision=auto, {model}: time over the fastest recipe set by hand",
            section=f"recipes_{model}",
            of="precision=auto",
            over=tuple(itertools.chain(*_FORMATS.values())),
            limit=1.02,
            control=_FP32,
            value="cpu_seconds",
        )
        for model in ("resnet18", "mobilenet_v3_small", "efficientnet_b0")
    ),
    *(
        Requirement(
            what=f"{short}, the memory format left open, {model}: time over the better format",
            section=f"recipes_{model}",
            of=f"{short}, hardware=auto",
            over=_FORMATS[short],
            limit=1.02,
            control=_FP32,
            value="cpu_seconds",
        )
        for model in ("resnet18", "mobilenet_v3_small", "efficientnet_b0")
        for short in ("fp32", "bf16")
    ),
    Requirement(
        what="private small_cnn, time over the ordinary update",
        section="dp",
        of="runner, private",
        over="runner, not private",
        limit=2.0,
        control=("runner, not private, again", "runner, not private"),
    ),
    Requirement(
        what="float16 on a CPU, times faster than torch's autocast",
        section="half",
        of="torch's autocast to float16",
        over="runner's float16",
        limit=50.0,
        at_least=True,
        value="cpu_seconds",
    ),
    Requirement(
        what="start-up, s more than a bare script",
        section="startup",
        of="runner's command line",
        over="bare script",
        limit=0.5,
        per="s more",
    ),
    Requirement(
        what="start-up, over Lightning's",
        section="startup",
        of="runner's command line",
        over="Lightning script",
        limit=0.75,
    ),
    Requirement(
        what="time per image, 60,000 images over 1,024",
        section="growth",
        of="60,000 images",
        over="1,024 images",
        limit=1.03,
        control=("1,024 images again", "1,024 images"),
    ),
    Requirement(
        what="time per image, 50 epochs later",
        section="growth",
        of="1,024 images, 50 epochs later",
        over="1,024 images",
        limit=1.03,
        control=("1,024 images again", "1,024 images"),
    ),
    Requirement(
        what="peak memory, 50 epochs later",
        section="growth",
        of="1,024 images, 50 epochs later",
        over="1,024 images",
        limit=1.01,
        value="peak_bytes",
        control=("1,024 images again", "1,024 images"),
    ),
    Requirement(
        what="a sweep's driver, s a cell beside its training",
        section="sweep",
        of="a sweep",
        over="",
        limit=0.5,
        per="s more",
        value="driver_seconds_a_cell",
    ),
    *(
        Requirement(
            what=f"GPU, {model} at 224 px, {short}: updates a second over a script tuned by hand",
            section=f"tuned_cuda_{model}",
            of=f"by hand, {short}",
            over=f"runner, {short}",
            limit=1.0,
            at_least=True,
            control=_HAND,
            on_gpu=True,
        )
        for model in ("resnet50", "efficientnet_b0", "vit_b_16")
        for short in ("bf16", "fp16")
    ),
    *(
        Requirement(
            what=f"GPU, {model} at 224 px: updates a second over float32 in planes",
            section=f"tuned_cuda_{model}",
            of="fp32, in planes",
            over="runner, bf16",
            limit=1.3,
            at_least=True,
            control=_HAND,
            on_gpu=True,
        )
        for model in ("resnet50", "efficientnet_b0")
    ),
    Requirement(
        what="GPU, ResNet-18 at 32 px, CUDA graphs: updates a second over Lightning in bf16 with the same input",
        section="tuned_cuda_resnet18",
        of="Lightning, bf16, same input",
        over="runner, bf16, CUDA graphs",
        limit=1.5,
        at_least=True,
        control=_HAND,
        on_gpu=True,
    ),
)
STATED = (
    ("GPU: resnet50's share of the FLOP limit and of the memory bandwidth", "tuned_cuda_resnet50"),
    ("GPU: float32, float16 and bfloat16 beside each other", "recipes_cuda_resnet50"),
)
"""What the page shall say without a limit, and the section that says it."""


def requirement_rows(samples: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """A row of ``COLUMNS`` for each limit whose samples are there, and for each that needs a GPU."""
    rows = []
    for asked in ASKED:
        of = _values(samples, asked, asked.of)
        limit = f"{'>=' if asked.at_least else '<='} {asked.limit:g}"
        if not of:
            if asked.on_gpu:
                rows.append((asked.what, limit, "unmeasured", "", "", ""))
            continue
        over = _values(samples, asked, _fastest(samples, asked))
        found = _compare(asked, of, over)
        floor = ""
        if asked.control is not None:
            pair = [_values(samples, asked, contender) for contender in asked.control]
            floor = f"{_number(_compare(asked, *pair).median, asked)} {_interval(_compare(asked, *pair), asked)}"
        kept = found.median >= asked.limit if asked.at_least else found.median <= asked.limit
        rows.append(
            (
                asked.what,
                limit,
                f"**{_number(found.median, asked)}**",
                _interval(found, asked) if found.pairs > 1 else "one measurement",
                floor,
                "yes" if kept else "**no**",
            )
        )
    there = {sample["section"] for sample in samples}
    return [
        *rows,
        *((what, "stated", "see below" if section in there else "unmeasured", "", "", "") for what, section in STATED),
    ]


def _fastest(samples: Sequence[Mapping[str, Any]], asked: Requirement) -> str:
    """The contender with the least median among those that are compared with and were timed."""
    if isinstance(asked.over, str):
        return asked.over
    timed = {name: taken for name in asked.over if (taken := _values(samples, asked, name))}
    return min(timed, key=lambda name: statistics.median(timed[name]))


def _values(samples: Sequence[Mapping[str, Any]], asked: Requirement, contender: str) -> list[float]:
    return [
        sample[asked.value]
        for sample in samples
        if sample["section"] == asked.section and sample.get("contender") == contender and asked.value in sample
    ]


def _compare(asked: Requirement, of: Sequence[float], over: Sequence[float]) -> Ratio:
    if asked.per == "ratio":
        return paired_ratio(of, over)
    return paired_difference(of, over or [0.0] * len(of))


def _number(value: float, asked: Requirement) -> str:
    return f"{value * 1e6:+.0f}" if asked.per == "us more" else f"{value:.3f}" if value < 10 else f"{value:.1f}"


def _interval(ratio: Ratio, asked: Requirement) -> str:
    if ratio.pairs == 1:
        return ""
    return f"[{_number(ratio.low, asked)}, {_number(ratio.high, asked)}]"
