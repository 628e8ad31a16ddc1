"""A comparison of all inference strategies on the same images: cost and gain of each."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.config.schema import HardwareConfig
from runner.disk.files import write_text
from runner.inference.evaluation import infer_into, most_processes
from runner.inference.results_folder import results_folder
from runner.planning.device import detect_device
from runner.records.csv_table import to_csv

if TYPE_CHECKING:
    from runner.inference.request import InferenceRequest
    from runner.inference.results import Results

TABLE_FILE = "compare.csv"


@dataclass(frozen=True, kw_only=True)
class StrategyComparison:
    """What came out."""

    table: str
    """For people."""
    notes: tuple[str, ...]
    """What they should know: the notes of all strategies, each once."""

    def __str__(self) -> str:
        return self.table


def compare_strategies(request: InferenceRequest) -> StrategyComparison:
    """Run all strategies one after another into ``request.compare_folder``.

    Raises:
        RequestError, RunError: as ``runner.inference.evaluation.infer``; then nothing is left.
    """
    device = detect_device(HardwareConfig(device=request.device))
    variants, left_out = strategies(request, most_processes=most_processes(device))
    found: list[Results] = []
    with results_folder(request.compare_folder, overwrite=request.overwrite) as files:
        for variant in variants:
            name = dataclasses.replace(variant, output=None).name
            print(f"{len(found) + 1} of {len(variants)}: {name}", file=sys.stderr, flush=True)
            inner = files / name
            inner.mkdir()
            found.append(infer_into(inner, variant))
        sheet, text = tables(found)
        write_text(files / TABLE_FILE, sheet)
    head = f"{found[0].name} on {found[0].images_from}, {found[0].images:,} images"
    notes = dict.fromkeys([*(note for results in found for note in results.notes), *left_out])
    return StrategyComparison(table=f"{head}\n{text}", notes=tuple(notes))


def strategies(request: InferenceRequest, *, most_processes: int) -> tuple[list[InferenceRequest], list[str]]:
    """``request`` by every strategy, and what to say of those that this machine is too small for."""
    variants = [
        dataclasses.replace(request, inference="standard"),
        dataclasses.replace(request, inference="mixed_precision", dtype="bfloat16"),
        dataclasses.replace(request, inference="mixed_precision", dtype="float16"),
        dataclasses.replace(request, inference="accelerate"),
        dataclasses.replace(request, inference="quantized", bits=8),
        dataclasses.replace(request, inference="quantized", bits=4),
    ]
    if request.processes <= most_processes:
        return variants, []
    note = f"accelerate is left out: {request.processes} processes need a device each, and there is {most_processes}"
    return [one for one in variants if one.inference != "accelerate"], [note]


def tables(found: list[Results]) -> tuple[str, str]:
    """``compare.csv`` and the table for people, a line for each of ``found``, compared with the first."""
    rows = _rows(found)
    return _as_csv(rows), _as_text([_for_people(row, scored=found[0].scores is not None) for row in rows])


def _rows(found: list[Results]) -> list[dict[str, Any]]:
    """The columns of ``compare.csv``: a unit each, and empty what a strategy or these images have not."""
    first = found[0]
    return [
        {
            "inference": one.inference,
            "bits": one.details.get("bits"),
            "arithmetic": one.dtype,
            "processes": one.processes,
            "threads": one.threads,
            "images": one.images,
            "accuracy": one.scores and one.scores.accuracy,
            "accuracy_change": one.scores and first.scores and one.scores.accuracy - first.scores.accuracy,
            "loss": one.loss,
            "calibration_error": one.scores and one.scores.calibration_error,
            "images_per_second": one.speed.images_per_second,
            "images_per_second_p25": one.speed.images_per_second_p25,
            "images_per_second_p75": one.speed.images_per_second_p75,
            "passes": one.speed.passes,
            "times_standard": one.speed.images_per_second / first.speed.images_per_second,
            "latency_p50_ms": one.speed.latency_p50_ms,
            "latency_p95_ms": one.speed.latency_p95_ms,
            "model_bytes": one.model_bytes,
            "size_ratio": one.model_bytes / first.model_bytes,
        }
        for one in found
    ]


def _for_people(row: dict[str, Any], *, scored: bool) -> dict[str, str]:
    bits = row["bits"]
    cells = {
        "inference": row["inference"],
        "weights": "" if bits is None else f"int{bits}",
        "arithmetic": row["arithmetic"],
    }
    if scored:
        cells |= {
            "accuracy": f"{row['accuracy']:.2%}",
            "change, pp": f"{100 * row['accuracy_change']:+.2f}",
            "loss": f"{row['loss']:.4f}",
            "calibration error": f"{row['calibration_error']:.4f}",
        }
    spread = f"{row['images_per_second_p25']:,.0f}-{row['images_per_second_p75']:,.0f}"
    return cells | {
        "images/s": f"{row['images_per_second']:,.0f}",
        "quartiles": spread if row["passes"] > 1 else "1 pass",
        "threads": str(row["threads"]) if row["processes"] == 1 else f"{row['processes']} x {row['threads']}",
        "x standard": f"{row['times_standard']:.2f}",
        "p50 ms": f"{row['latency_p50_ms']:.2f}",
        "p95 ms": f"{row['latency_p95_ms']:.2f}",
        "size, kB": f"{row['model_bytes'] / 1000:,.1f}",
        "size ratio": f"{row['size_ratio']:.2f}",
    }


def _as_csv(rows: list[dict[str, Any]]) -> str:
    return to_csv(list(rows[0]), rows)


def _as_text(rows: list[dict[str, str]]) -> str:
    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = [
        "  ".join(
            cell.ljust(width) if column < 3 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([text[0], "-" * max(map(len, text)), *text[1:]])
