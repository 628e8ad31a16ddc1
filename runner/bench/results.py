"""``bench.md`` with its plots for people, ``bench.jsonl`` with every sample and the environment for everybody else."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt

from runner.bench.requirements import COLUMNS, requirement_rows
from runner.bench.section import Section
from runner.bench.settings import Settings
from runner.disk.files import write_text
from runner.records.environment import describe_environment

_SHOWN = ("title", "about", "columns", "rows", "notes")
_OURS, _OTHERS, _INK = "#1f6feb", "#9aa4b2", "#24292f"


def write_results(sections: Sequence[Section], settings: Settings, folder: Path) -> Path:
    """Write what was found into ``folder`` and return the page; each section also has a plot where it has bars.

    Sections that an earlier measurement left there stay, so that a part can be measured alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    environment = describe_environment()
    date = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    file = folder / "bench.jsonl"
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []
    for section in sections:
        shown = {key: value for key, value in asdict(section).items() if key in _SHOWN}
        if section.bars:
            shown["plot"] = f"bench-{section.name}.png"
            _plot(section, folder / shown["plot"])
        heading = {
            "section": section.name,
            "page": shown,
            "date": date,
            "threads": settings.threads,
            "launches": settings.launches,
            "rounds": settings.rounds,
            "environment": environment,
        }
        lines = _replaced(lines, section.name, [heading, *section.samples])
    write_text(file, "".join(json.dumps(line) + "\n" for line in lines))
    page = folder / "bench.md"
    write_text(page, _page(lines))
    return page


def _replaced(lines: list[dict[str, Any]], name: str, new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """``lines`` with those of section ``name`` replaced at their place, or with ``new`` at the end."""
    place = next((index for index, line in enumerate(lines) if line["section"] == name), len(lines))
    return [*lines[:place], *new, *(line for line in lines[place:] if line["section"] != name)]


def _page(lines: Sequence[dict[str, Any]]) -> str:
    headings = [line for line in lines if "page" in line]
    parts = [
        "# Benchmarks",
        "",
        "Made by `make bench`, or a part at a time by `python -m runner bench PART --results FOLDER`.  Other work on "
        "the machine shows in the noise floors.  The first block of a process is its warm-up and does not count.  "
        "Contenders take turns in A B B A order; ratios are medians of paired ratios with 95 % bootstrap intervals.  "
        "Every sample is in `bench.jsonl`, with the environment of each section.",
        "",
        "## Asked and measured",
        "",
        *_table(COLUMNS, requirement_rows([line for line in lines if "page" not in line])),
    ]
    for heading in headings:
        page = heading["page"]
        parts += ["", f"## {page['title']}", "", page["about"], "", *_table(page["columns"], page["rows"])]
        for note in page["notes"]:
            parts += ["", note]
        parts += ["", f"{_machine(heading)}."]
        if "plot" in page:
            parts += ["", f"![{page['title']}]({page['plot']})"]
    return "\n".join(parts) + "\n"


def _machine(heading: dict[str, Any]) -> str:
    environment = heading["environment"]
    gpus = ", ".join(environment["gpus"]) or "no GPU"
    return (
        f"{heading['date']}; {environment['cpu']}, {environment['cores']} cores, {heading['threads']} thread(s) a "
        f"process, {gpus}; Python {environment['python']}, torch {environment['packages']['torch']}; sets of fresh "
        f"processes: {heading['launches']}, rounds in each: {heading['rounds']}"
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        "| " + " | ".join(columns) + " |",
        "|" + "|".join(["---", *["---:"] * (len(columns) - 1)]) + "|",
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def _plot(section: Section, path: Path) -> None:
    mpl.use("Agg")

    bars = sorted(section.bars, key=lambda bar: bar.ratio.median, reverse=True)
    with plt.rc_context(
        {
            "font.size": 10,
            "font.family": "DejaVu Sans",
            "text.color": _INK,
            "axes.labelcolor": _INK,
            "text.parse_math": False,
        }
    ):
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
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
            )
        axes.axvline(1.0, color=_INK, linewidth=0.8, linestyle=":")
        axes.set_yticks(range(len(bars)), [bar.label for bar in bars])
        axes.set_xlabel(section.axis, fontsize=9)
        axes.margins(x=0.1)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(left=False)
        figure.savefig(path, dpi=150)
        plt.close(figure)
