"""Every strategy on the same images, and the table that tells what each costs and gains."""

from __future__ import annotations

import csv
import dataclasses
import io
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.disk.files import write_text
from runner.inference.evaluation import infer_into
from runner.inference.results_folder import refuse_existing, results_folder

if TYPE_CHECKING:
    from runner.inference.request import InferenceRequest
    from runner.inference.results import Results

TABLE_FILE = "compare.csv"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What came out."""

    table: str
    """For people."""
    notes: tuple[str, ...]
    """What they should know: the notes of all strategies, each once."""

    def __str__(self) -> str:
        return self.table


def compare_strategies(request: InferenceRequest) -> Comparison:
    """Run all strategies one after another into ``request.compare_folder``.

    Raises:
        RequestError, RunError: as ``runner.inference.evaluation.infer``; then nothing is left.
    """
    refuse_existing(request.compare_folder, overwrite=request.overwrite)
    variants = [
        dataclasses.replace(request, inference="standard"),
        dataclasses.replace(request, inference="mixed_precision", dtype="bfloat16"),
        dataclasses.replace(request, inference="mixed_precision", dtype="float16"),
        dataclasses.replace(request, inference="accelerate"),
        dataclasses.replace(request, inference="quantized", bits=8),
        dataclasses.replace(request, inference="quantized", bits=4),
    ]
    found: list[Results] = []
    with results_folder(request.compare_folder) as files:
        for variant in variants:
            name = dataclasses.replace(variant, output=None).name
            print(f"{len(found) + 1} of {len(variants)}: {name}", file=sys.stderr, flush=True)
            inner = files / name
            inner.mkdir()
            found.append(infer_into(inner, variant))
        rows = _rows(found)
        write_text(files / TABLE_FILE, _as_csv(rows))
    head = f"{found[0].name} on {found[0].images_from}, {found[0].images:,} images"
    notes = dict.fromkeys(note for results in found for note in results.notes)
    return Comparison(table=f"{head}\n{_as_text(rows)}", notes=tuple(notes))


def _rows(found: list[Results]) -> list[dict[str, str]]:
    first = found[0]
    rows = []
    for results in found:
        scores, base, speed = results.scores, first.scores, results.speed
        row = {"inference": results.inference, "weights": _weights(results), "arithmetic": results.dtype}
        if scores is not None and base is not None:
            row |= {
                "accuracy": f"{scores.accuracy:.2%}",
                "change, pp": f"{100 * (scores.accuracy - base.accuracy):+.2f}",
                "loss": f"{results.loss:.4f}",
                "calibration error": f"{scores.calibration_error:.4f}",
            }
        row |= {
            "images/s": f"{speed.images_per_second:,.0f}",
            "x standard": f"{speed.images_per_second / first.speed.images_per_second:.2f}",
            "p50 ms": f"{speed.latency_p50_ms:.2f}",
            "p95 ms": f"{speed.latency_p95_ms:.2f}",
            "size, kB": f"{results.model_bytes / 1000:,.1f}",
            "size ratio": f"{results.model_bytes / first.model_bytes:.2f}",
        }
        rows.append(row)
    return rows


def _weights(results: Results) -> str:
    if results.inference == "quantized":
        return f"int{results.details['bits']}"
    return f"{results.processes} processes" if results.processes > 1 else ""


def _as_csv(rows: list[dict[str, str]]) -> str:
    page = io.StringIO()
    writer = csv.DictWriter(page, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: value.replace(",", "") for key, value in row.items()} for row in rows)
    return page.getvalue()


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
