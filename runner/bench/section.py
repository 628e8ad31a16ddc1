"""A section of the benchmark: a table for people, and every sample behind it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from runner.bench.paired_benchmark import Result
from runner.bench.paired_ratios import Ratio, paired_difference, paired_ratio


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar of a plot: a ratio with its interval."""

    label: str
    ratio: Ratio
    ours: bool
    """Whether it is the runner."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """One comparison."""

    name: str
    """For file names."""
    title: str
    about: str
    """What was compared, in sentences."""
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    samples: tuple[dict[str, Any], ...]
    """Raw measurements, one line of JSON each."""
    bars: tuple[Bar, ...] = ()
    axis: str = ""
    """What the bars show."""
    notes: tuple[str, ...] = field(default=())


def paired_section(
    results: Sequence[Result], *, name: str, title: str, about: str, ours: str, control: str | None
) -> Section:
    """The table of a duel: times, ratios over the first contender and over the contender ``ours``, and energy if known.

    Args:
        results: of ``run_paired``; the first is the yardstick.
        name: of the section.
        title: its heading.
        about: what was compared.
        ours: name of the contender that the last column compares the others with.
        control: name of the contender that is the first one again; its ratio is the noise floor.
    """
    first = results[0]
    fair = {result.contender.name: result for result in results if result.same}
    rows, bars, samples = [], [], []
    energy = ("J an update",) if first.joules else ()
    for result in results:
        label = result.contender.name
        if not result.same:
            rows.append((label, "not the same computation: no time taken", *[""] * (4 + len(energy))))
            continue
        ratio = paired_ratio(result.seconds, first.seconds)
        extra = paired_difference(result.seconds, first.seconds)
        speedup = "" if label == ours or ours not in fair else str(paired_ratio(result.seconds, fair[ours].seconds))
        rows.append(
            (
                label,
                _time(sorted(result.seconds)[len(result.seconds) // 2]),
                "1" if result is first else str(ratio),
                "" if result is first else f"{_micro(extra.median)} [{_micro(extra.low)}, {_micro(extra.high)}]",
                speedup,
                f"{max(result.peak_bytes) / 2**20:,.0f} ({max(result.peak_bytes) / max(first.peak_bytes):.3f})",
                *(f"{statistics.median(result.joules):.3g}" for _ in energy),
            )
        )
        if result is not first and label != control:
            bars.append(Bar(label=label, ratio=ratio, ours=label == ours))
        measured = {"seconds": result.seconds, "cpu_seconds": result.cpu_seconds, "joules": result.joules}
        samples += [
            {"section": name, "contender": label, "round": index}
            | {key: values[index] for key, values in measured.items() if values}
            for index in range(len(result.seconds))
        ]
        samples += [
            {"section": name, "contender": label, "launch": index, "peak_bytes": peak}
            for index, peak in enumerate(result.peak_bytes)
        ]
    notes: tuple[str, ...] = ()
    if control is not None:
        floor = paired_ratio(fair[control].seconds, first.seconds)
        notes = (f"Noise floor: the same loop against itself gave {floor}.",)
    return Section(
        name=name,
        title=title,
        about=about,
        columns=(
            "loop",
            "time per update",
            f"over {first.contender.name}",
            f"us more than {first.contender.name}",
            f"over {ours}",
            "peak MiB (ratio)",
            *energy,
        ),
        rows=tuple(rows),
        samples=tuple(samples),
        bars=tuple(bars),
        axis=f"time per update over {first.contender.name} (median of paired ratios, 95 % interval)",
        notes=notes,
    )


def _time(seconds: float) -> str:
    return f"{seconds * 1e6:,.0f} us" if seconds < 1e-2 else f"{seconds * 1e3:,.1f} ms"


def _micro(seconds: float) -> str:
    return f"{seconds * 1e6:+,.0f}"
