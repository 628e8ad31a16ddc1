"""``bench.md`` with its plots for people, ``bench.jsonl`` with every sample and the environment for everybody else."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runner.bench.section import Section
from runner.bench.settings import Settings
from runner.disk.files import write_text
from runner.records.environment import describe_environment

_OURS, _OTHERS, _INK = "#1f6feb", "#9aa4b2", "#24292f"


def write_results(sections: Sequence[Section], settings: Settings, folder: Path) -> Path:
    """Write what was found into ``folder`` and return the page; each section also has a plot where it has bars."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = describe_environment()
    date = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    lines = [{"section": "environment", "date": date, "threads": settings.threads, **environment}]
    for section in sections:
        lines += section.samples
        if section.bars:
            _plot(section, folder / f"bench-{section.name}.png")
    write_text(folder / "bench.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    page = folder / "bench.md"
    write_text(page, _page(sections, settings, environment, date))
    return page


def _page(sections: Sequence[Section], settings: Settings, environment: dict[str, Any], date: str) -> str:
    packages = environment["packages"]
    parts = [
        "# Benchmarks",
        "",
        f"{date}; {environment['cpu']}, {environment['cores']} cores, {settings.threads} thread(s) a process, "
        + ("no GPU" if not environment["gpus"] else ", ".join(environment["gpus"]))
        + f"; Python {environment['python']}, torch {packages['torch']}.",
        "",
        f"Made by `make bench`: {settings.launches} sets of fresh processes, {settings.rounds} A B B A rounds in each; "
        "the first block of a process is its warm-up.  Ratios are medians of paired ratios with 95 % bootstrap "
        "intervals.  Every sample is in `bench.jsonl`.",
    ]
    for section in sections:
        parts += ["", f"## {section.title}", "", section.about, ""]
        parts.append("| " + " | ".join(section.columns) + " |")
        parts.append("|" + "|".join(["---", *["---:"] * (len(section.columns) - 1)]) + "|")
        parts += ["| " + " | ".join(row) + " |" for row in section.rows]
        for note in section.notes:
            parts += ["", note]
        if section.bars:
            parts += ["", f"![{section.title}](bench-{section.name}.png)"]
    return "\n".join(parts) + "\n"


def _plot(section: Section, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    bars = sorted(section.bars, key=lambda bar: bar.ratio.median, reverse=True)
    with plt.rc_context({"font.size": 10, "font.family": "DejaVu Sans", "text.color": _INK, "axes.labelcolor": _INK}):
        figure, axes = plt.subplots(figsize=(7.2, 0.9 + 0.38 * len(bars)), layout="constrained")
        medians = [bar.ratio.median for bar in bars]
        spread = [
            [bar.ratio.median - bar.ratio.low for bar in bars],
            [bar.ratio.high - bar.ratio.median for bar in bars],
        ]
        colors = [_OURS if bar.ours else _OTHERS for bar in bars]
        axes.barh(range(len(bars)), medians, xerr=spread, color=colors, ecolor=_INK, height=0.62, capsize=2)
        for index, bar in enumerate(bars):
            axes.annotate(
                f"{bar.ratio.median:.2f}",
                (bar.ratio.high, index),
                xytext=(6, 0),
                textcoords="offset points",
                va="center",
            )
        axes.axvline(1.0, color=_INK, linewidth=0.8, linestyle=":")
        axes.set_yticks(range(len(bars)), [bar.label for bar in bars])
        axes.set_xlabel(section.axis, fontsize=9)
        axes.margins(x=0.1)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(left=False)
        figure.savefig(path, dpi=150)
        plt.close(figure)
