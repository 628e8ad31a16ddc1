"""The question of a report: the metric, the recipes, their reference and the difference that matters."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

from runner.config.looks import plan_looks
from runner.config.rules.rules import RULES
from runner.config.schema import ComparisonConfig
from runner.errors import RequestError, nearest
from runner.report.cells import REPEATS, CellResult, SweepResults

ACCURACY_MARGIN = 0.2
"""Percentage points within which two accuracies count as equal unless the question says otherwise."""


@dataclass(frozen=True)
class Metric:
    """A final metric and how people read it."""

    name: str

    @property
    def is_accuracy(self) -> bool:
        """Whether it is a share; else it is a loss."""
        return self.name.endswith("accuracy")

    @property
    def scale(self) -> float:
        """Factor from what ``run.json`` holds to what is shown: percent, or nats."""
        return 100.0 if self.is_accuracy else 1.0

    @property
    def unit(self) -> str:
        """Unit of a difference."""
        return "pp" if self.is_accuracy else "nats"

    @property
    def words(self) -> str:
        """The metric in words."""
        return self.name.replace("_", " ")

    def text(self, value: float) -> str:
        """A value, given as shown, with its unit."""
        return f"{value:.2f} %" if self.is_accuracy else f"{value:.4f}"

    def interval(self, low: float, high: float) -> str:
        """An interval of values, given as shown; a share lies between 0 and 1 whatever the t distribution says."""
        if not self.is_accuracy:
            return f"{low:.4f} to {high:.4f}"
        return f"{max(low, 0.0):.2f} to {min(high, 100.0):.2f} %"

    def difference(self, value: float, *, sign: bool = True) -> str:
        """A difference, given as shown, with its unit."""
        digits = 2 if self.is_accuracy else 4
        return f"{value:{'+' if sign else ''}.{digits}f} {self.unit}"


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question that can be answered: everything in it is known to be there."""

    metric: Metric
    margin: float
    """In the unit of the metric."""
    confidence: float
    by: tuple[str, ...]
    """Keys that tell recipes apart; empty when the sweep has one recipe."""
    reference: str | None
    """Values of ``by`` joined by commas; None for the first recipe."""
    decision: str = "seconds"
    """What the recommended recipe costs least of."""
    failure_rate: float = 0.5
    """Share of failed runs that must be excluded."""
    looks: tuple[int, ...] = ()
    """Seeds a recipe at each planned look; empty for a number of seeds that was fixed beforehand."""
    images: int | None = None
    """Images that the metric was measured on, the fewest of any run; None where no plan says."""

    @property
    def resolution(self) -> float:
        """What one image makes of an accuracy, in the unit of the margin; 0 for a loss, and where it is not known."""
        return self.metric.scale / self.images if self.images and self.metric.is_accuracy else 0.0

    @property
    def level(self) -> float:
        """Level of the tests."""
        return 1.0 - self.confidence


def ask(sweep: SweepResults, wanted: ComparisonConfig | None = None) -> Question:
    """The question that ``wanted`` (None: the sweep's own configuration) asks of ``sweep``, with its gaps filled in.

    Raises:
        RequestError: a key that no cell has, a metric that was not measured, or a loss without a margin.
    """
    if wanted is None:
        wanted = configured(sweep)
    metric = Metric(_metric(sweep, wanted.metric))
    if wanted.margin is None and not metric.is_accuracy:
        raise RequestError("comparison.margin", None, f"a number of nats that matters, for {metric.name}")
    by = tuple(wanted.by) or _telling(sweep)
    for key in by:
        _check_key(sweep, key)
    split = metric.name.partition("_")[0]
    question = Question(
        metric=metric,
        margin=wanted.margin or ACCURACY_MARGIN,
        confidence=wanted.confidence,
        by=by,
        reference=wanted.reference,
        decision=wanted.decision,
        failure_rate=wanted.failure_rate,
        looks=() if wanted.until is None else plan_looks(wanted.max_seeds),
        images=min((found for cell in sweep.finished if (found := cell.images(split))), default=None),
    )
    if wanted.margin is None:
        # what is less than one image no test can tell apart
        return dataclasses.replace(question, margin=max(ACCURACY_MARGIN, question.resolution))
    return question


def configured(sweep: SweepResults) -> ComparisonConfig:
    """The section ``comparison`` of the first cell that has one; the defaults where none has."""
    for cell in sweep.cells:
        found = cell.config.get("comparison")
        if isinstance(found, dict):
            known = {field.name for field in dataclasses.fields(ComparisonConfig)}
            return checked(ComparisonConfig(**{key: value for key, value in found.items() if key in known}))
    return ComparisonConfig()


def checked(wanted: ComparisonConfig) -> ComparisonConfig:
    """``wanted`` itself, when its values are possible.

    Raises:
        RequestError: one is not.
    """
    for field in dataclasses.fields(wanted):
        key, value = f"comparison.{field.name}", getattr(wanted, field.name)
        if key in RULES and value is not None:
            RULES[key].check(key, value)
    return wanted


def _telling(sweep: SweepResults) -> tuple[str, ...]:
    """As few keys as tell the recipes of ``sweep`` apart; of keys that change together, the first one typed."""

    def recipes(keys: Sequence[str]) -> int:
        return len({tuple(cell.value(key) for key in keys) for cell in sweep.cells})

    found = [key for key in sweep.varied if key not in REPEATS]
    for key in reversed(found):
        fewer = [other for other in found if other != key]
        if recipes(fewer) == recipes(found):
            found = fewer
    return tuple(found)


def _metric(sweep: SweepResults, wanted: str | None) -> str:
    if wanted is not None:
        if sweep.finished and not _measured(sweep.finished, wanted):
            have = [name for name in ("test_accuracy", "val_accuracy", "test_loss", "val_loss", "train_loss")
                    if _measured(sweep.finished, name)]  # fmt: skip
            raise RequestError("comparison.metric", wanted, f"one that was measured: {', '.join(have) or 'none was'}")
        return wanted
    tested = _measured(sweep.finished, "test_accuracy") or not _measured(sweep.finished, "val_accuracy")
    return "test_accuracy" if tested else "val_accuracy"


def _measured(cells: Sequence[CellResult], metric: str) -> bool:
    return any(not math.isnan(cell.metric(metric)) for cell in cells)


def _check_key(sweep: SweepResults, key: str) -> None:
    if any(cell.value(key) is not None for cell in sweep.cells):
        return
    keys = sorted(set().union(*(cell.keys() for cell in sweep.cells)))
    same_name = [known for known in keys if known.rpartition(".")[2] == key.rpartition(".")[2]]
    varied = ", ".join(sweep.varied) or "nothing varies"
    near = same_name[0] if len(same_name) == 1 else nearest(key, keys)
    raise RequestError("comparison.by", key, f"a key of the cells; between them differ: {varied}", nearest=near)
