"""``inference.json``, ``predictions.csv`` and the confusion matrix's picture: what an inference leaves."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.config.words.pluralize import pluralize
from runner.disk.files import write_bytes, write_text
from runner.inference.finished_run import Privacy
from runner.inference.measure import Speed
from runner.inference.scores import BINS, MOST_SQUARE, Scores
from runner.records.csv_table import to_csv
from runner.records.json_values import write_json
from runner.records.progress import rate_text

if TYPE_CHECKING:
    from runner.data.images import SkippedFile
    from runner.inference.image_sources import Subject
    from runner.inference.measure import ModelOutputs

RESULTS_FILE = "inference.json"
PREDICTIONS_FILE = "predictions.csv"
PICTURE_FILE = "confusion.png"
_PAIR = ("true", "predicted", "images")


@dataclass(frozen=True, kw_only=True)
class Results:
    """The contents of ``inference.json``."""

    run: str
    """Name of the run's folder."""
    name: str
    identity: str
    """The run's: SHA-256 of its recipe."""
    step: int
    """Updates after which the weights were saved."""
    inference: str
    dtype: str
    """Of the products in the forward pass."""
    processes: int
    threads: int
    """CPU threads of each process."""
    details: Mapping[str, Any]
    """What belongs to one strategy alone."""
    images: int
    images_from: str
    skipped: tuple[SkippedFile, ...]
    """Files that could not be read."""
    loss: float | None
    """Mean cross-entropy in nats; None without labels."""
    scores: Scores | None
    run_test_accuracy: float | None
    """What the run measured at its own end, to compare."""
    speed: Speed
    model_bytes: int
    """Of the weights in a file."""
    peak_bytes: int
    """Largest memory that a process held during the pass: device memory on CUDA, resident memory on a CPU."""
    privacy: Privacy | None
    notes: tuple[str, ...]
    environment: Mapping[str, Any]
    started: str
    finished: str

    def without_details(self) -> Results:
        """The same without what grows with the number of classes and files: a process hands this on."""
        if self.scores is None:
            return dataclasses.replace(self, skipped=self.skipped[:1])
        short = dataclasses.replace(
            self.scores, classes=(), confusion=None, pairs=self.scores.pairs[:0], calibration=()
        )
        return dataclasses.replace(self, scores=short, skipped=self.skipped[:1])

    @property
    def cores(self) -> str:
        """Threads of all processes, for people."""
        threads = pluralize(self.threads, "thread")
        return threads if self.processes == 1 else f"{self.processes} x {threads}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for the file: figures first, then how they came about."""
        scores = self.scores
        plain = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        del plain["scores"], plain["loss"]
        metrics = None
        if scores is not None:
            metrics = {
                "accuracy": scores.accuracy,
                "loss": self.loss,
                "macro_f1": scores.macro_f1,
                "calibration_error": scores.calibration_error,
                "classes": scores.classes,
                "confusion": scores.confusion,
                "confusion_pairs": None
                if scores.confusion is not None
                else dict(zip(_PAIR, scores.pairs.T, strict=True)),
                "calibration": {
                    "source": "Guo et al. 2017, equation 3: most probable class, bins of equal width",
                    "bins": BINS,
                    "table": scores.calibration,
                },
            }
        return {"metrics": metrics, **plain}

    def rows(self) -> list[tuple[str, str]]:
        """(name, value) for people."""
        scores, speed = self.scores, self.speed
        rows = [] if scores is None else [
            ("accuracy", f"{scores.accuracy:.2%}"),
            ("loss", f"{self.loss:.4f}"),
            ("F1 (macro)", f"{scores.macro_f1:.4f}"),
            ("calibration error", f"{scores.calibration_error:.4f}"),
        ]  # fmt: skip
        rows += [
            ("throughput", f"{rate_text(speed.images_per_second)} images/s, {speed.spread}, {self.cores}"),
            ("latency", f"p50 {speed.latency_p50_ms:.2f} ms, p95 {speed.latency_p95_ms:.2f} ms (batch of 1)"),
            ("weights", f"{self.model_bytes / 2**20:.2f} MiB"),
            ("peak memory", f"{self.peak_bytes / 2**20:,.0f} MiB"),
        ]
        if self.privacy is not None:
            rows.append(("privacy", str(self.privacy)))
        return rows

    def __str__(self) -> str:
        rows = self.rows()
        width = max(len(name) for name, _ in rows)
        how = self.inference if self.processes == 1 else f"{self.inference} in {self.processes} processes"
        head = f"{self.name}: {how} ({self.dtype}) on {self.images_from}, {self.images:,} images"
        return "\n".join([head, *(f"  {name:<{width}}  {value}" for name, value in rows)])


def write_results(folder: Path, results: Results, answers: ModelOutputs, subject: Subject) -> Results:
    """Write the files of ``results`` into ``folder``, and return them with what there is to say of their picture.

    Raises:
        OSError: they cannot be written.
    """
    picture, note = _picture(results, subject)
    if note is not None:
        results = dataclasses.replace(results, notes=(*results.notes, note))
    write_json(folder / RESULTS_FILE, results.as_dict())
    write_text(folder / PREDICTIONS_FILE, _predictions(results, answers, subject))
    if picture is not None:
        write_bytes(folder / PICTURE_FILE, picture)
    return results


def _picture(results: Results, subject: Subject) -> tuple[bytes | None, str | None]:
    """The confusion matrix drawn, or why it is not: the figures are worth more than their picture."""
    if results.scores is None:
        return None, None
    if results.scores.confusion is None:
        return None, f"no picture of {len(subject.data.classes):,} classes (at most {MOST_SQUARE:,})"
    from runner.inference.confusion_plot import draw_confusion, undrawn

    title = f"{results.name}\n{results.images_from}, {results.images:,} images: {results.scores.accuracy:.2%} right"
    try:
        picture = draw_confusion(results.scores.confusion, subject.data.classes, title=title)
        return picture, undrawn(subject.data.classes)
    except Exception as error:
        return None, f"no picture of the confusion matrix: {' '.join(str(error).split()) or type(error).__name__}"


def _predictions(results: Results, answers: ModelOutputs, subject: Subject) -> str:
    """A line an image: file, class, probability, where it is known the true class, and the model's (ε, δ)."""
    classes, privacy = subject.data.classes, results.privacy
    columns = ["file", "class", "probability"]
    columns += ["label"] if subject.labelled else []
    columns += [] if privacy is None else ["epsilon", "delta"]
    claim = {}
    if privacy is not None:
        nothing = "inf" if privacy.void is None else "void"
        claim = {"epsilon": nothing if privacy.epsilon is None else repr(privacy.epsilon), "delta": repr(privacy.delta)}

    def row(position: int) -> dict[str, str]:
        truth = {"label": classes[subject.images.labels[position]]} if subject.labelled else {}
        predicted, probability = classes[answers.predicted[position]], f"{answers.confidence[position]:.6f}"
        return {"file": subject.file_name(position), "class": predicted, "probability": probability} | truth | claim

    return to_csv(columns, map(row, range(results.images)))
