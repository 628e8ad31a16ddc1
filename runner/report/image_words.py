"""What is shown over images, in words and as a table."""

from __future__ import annotations

import math
from collections.abc import Iterator

from runner.config.words.pluralize import pluralize
from runner.records.document import Grid, Paragraph
from runner.report.document import Part
from runner.report.image_evidence import ImageEvidence, OverImages
from runner.report.question import Question
from runner.report.statistics import Floats, holm

_NAMED = 4
"""Recipes that a sentence names."""


def over_new_images(images: ImageEvidence, one: str, other: str, question: Question) -> str | None:
    """A sentence on ``one`` against ``other``, of which one is the reference; None where nothing is known."""
    found = images.found.get(one) or images.found.get(other)
    if found is None:
        return None
    low, high = map(float, found.difference.both(question.confidence))
    what = "training again and new images"
    if math.isnan(low):
        low, high = map(float, found.difference.models.interval(question.confidence))
        what = "new images with these trained models"
    if one not in images.found:
        low, high = -high, -low
    ends = f"{question.metric.difference(low)} to {question.metric.difference(high)}"
    return f"For {what} the {question.confidence:.0%} interval is {ends}."


def one_pair_each(images: ImageEvidence, reference: str, question: Question) -> str | None:
    """A sentence on single runs against that of ``reference``; None where nothing is known."""
    found = {label: one for label, one in images.found.items() if one.alone is not None}
    if not found or len(found) > _NAMED:
        return None
    p_values = holm([one.p_same for one in found.values()])
    clauses = []
    for (label, one), p in zip(found.items(), p_values, strict=True):
        assert one.alone is not None
        low, high = map(float, one.difference.models.interval(question.confidence))
        ends = f"{question.metric.difference(low)} to {question.metric.difference(high)}"
        clauses.append(
            f"{one.alone[0]} with {label} alone and {one.alone[1]} with {reference} alone (McNemar's exact test,"
            f" p = {p:.2g}; new images: {ends})"
        )
    count = next(iter(found.values())).images
    return (
        f"Of the {count:,} images the trained models answered rightly {'; '.join(clauses)}: that is about these models"
        " on new images, and not about training again."
    )


def tabulate_images(images: ImageEvidence, reference: str, question: Question) -> Iterator[Part]:
    """How far each difference reaches over images, beside that over seeds; or why that is not known."""
    if images.found:
        confidence = f"{question.confidence:.0%}"
        head = ["recipe", "runs", "images", "difference (pp)", f"{confidence}, new images", f"{confidence}, both new",
                "only this right", "only reference right", "p (McNemar)"]  # fmt: skip
        rows = [_row(label, one, question) for label, one in images.found.items()]
        if all(one.alone is None for one in images.found.values()):
            head, rows = head[:6], [row[:6] for row in rows]
        yield Paragraph(
            f"Against {reference} over images, from the answers that the runs keep. New images: these trained models on"
            " other images of this kind (variance over images; two runs by McNemar's exact test). Both new: training"
            " again, and other images (runs and images as crossed random effects)."
            " The intervals above are for training again and these very images."
        )
        yield Grid(head, rows, frozenset({"recipe"}))
    if images.missing is not None:
        yield Paragraph(f"Not known over {'all of the' if images.found else 'new'} images: {images.missing}.")


def _row(label: str, one: OverImages, question: Question) -> list[str]:
    alone = ["-", "-", "-"] if one.alone is None else [*map(str, one.alone), f"{one.p_same:.2g}"]
    difference = one.difference
    intervals = [difference.models.interval(question.confidence), difference.both(question.confidence)]
    mean = f"{float(difference.models.mean):+.2f}"
    return [label, pluralize(one.runs, "pair"), f"{one.images:,}", mean, *map(_interval, intervals), *alone]


def _interval(ends: tuple[Floats, Floats]) -> str:
    low, high = map(float, ends)
    return "-" if math.isnan(low) else f"{low:+.2f} to {high:+.2f}"
