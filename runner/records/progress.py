"""The progress of a run, as one line of a given width."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from runner.privacy.accounting.privacy_text import delta_text, epsilon_text

PRECISION_MARKS = {"float32": "fp32", "float64": "fp64", "bfloat16": "bf16", "float16": "fp16"}
"""Type -> how it is marked in a line."""


@dataclass(frozen=True)
class Waiting:
    """Something that takes its time, from now on."""

    what: str
    """Such as ``loading data``."""
    since: float = field(default_factory=lambda: time.monotonic())
    """On the monotonic clock, in seconds."""

    def __str__(self) -> str:
        """Such as ``loading data, 0:03``; without the time in the first second."""
        seconds = int(time.monotonic() - self.since)
        return f"{self.what}, {duration(seconds)}" if seconds else self.what


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run stands: figures that the host already has, so that showing them never waits for the device."""

    step: int
    steps: int
    epoch: int
    """Epoch under way, from 1."""
    epochs: int
    loss: float | None = None
    """Mean training loss in nats per example."""
    accuracy: float | None = None
    """Share in [0, 1] of the training examples."""
    val_loss: float | None = None
    val_accuracy: float | None = None
    """Share in [0, 1]."""
    lr: float | None = None
    precision: str = ""
    """One of ``PRECISION_MARKS``."""
    samples_per_second: float | None = None
    seconds_left: float | None = None
    epsilon: float | None = None
    """Privacy spent so far; None without differential privacy."""
    delta: float | None = None
    waiting: Waiting | None = None
    """What the run does at the moment, where that is not training."""


@dataclass(frozen=True)
class _Figure:
    text: str
    spare: int = 0
    """Order in which figures give way where columns are few, the highest first; 0 never does."""
    short: str = ""
    """What stands for ``text`` before any figure is left out; empty for ``text`` itself."""


def epoch_line(progress: Progress, width: int | None = None) -> str:
    """Say in one line how an epoch ended, such as ``Epoch 10/100: ε=1.20, δ=1e-05, loss 0.4123``.

    ``width`` is the number of columns; where they are too few, the least telling figures are left out.
    """
    head = f"Epoch {progress.epoch}/{progress.epochs}: "
    budget = "" if progress.epsilon is None or progress.delta is None else budget_text(progress.epsilon, progress.delta)
    figures = [
        _Figure(budget),
        _Figure(_maybe("loss {:.4f}", progress.loss)),
        _Figure(_maybe("acc {:.1%}", progress.accuracy), spare=2),
        _Figure(_maybe("val loss {:.4f}", progress.val_loss), spare=3),
        _Figure(_maybe("val acc {:.1%}", progress.val_accuracy)),
        _Figure(_maybe("lr {:.3g}", progress.lr), spare=5),
        _Figure(f"[{progress.precision}]" if progress.precision else "", spare=4),
        _speed(progress.samples_per_second, spare=1),
    ]
    return head + ", ".join(_fit(figures, None if width is None else width - len(head), len(", ")))


def progress_figures(progress: Progress, width: int) -> str:
    """Return the figures beside the progress bar, in at most ``width`` columns unless the loss alone needs more.

    While the run does something else than training, that stands in their place.
    """
    if progress.waiting is not None:
        return str(progress.waiting)
    left = "" if progress.seconds_left is None else duration(progress.seconds_left)
    figures = [
        _Figure(_maybe("loss {:.3f}", progress.loss)),
        _Figure(_maybe("acc {:.1%}", progress.accuracy), spare=3),
        _Figure(_maybe("lr {:.2g}", progress.lr), spare=4),
        _Figure(f"[{progress.precision}]" if progress.precision else "", spare=5),
        _speed(progress.samples_per_second, spare=6),
        _Figure(left and f"{left} left", spare=7, short=left),
        _Figure("" if progress.epsilon is None else _spent(progress.epsilon), spare=1),
    ]
    return " ".join(_fit(figures, width, 1))


NOT_PRIVATE = "NOT private"
"""In the place of an ε that is infinite."""


def budget_text(epsilon: float, delta: float) -> str:
    """Say how much privacy is spent, such as ``ε=1.20, δ=1e-05``; never less than is spent: both are rounded up."""
    if math.isinf(epsilon):
        return NOT_PRIVATE
    return f"ε={epsilon_text(epsilon)}, δ={delta_text(delta)}"


def rate_text(samples_per_second: float) -> str:
    """Say the images a second to three digits, such as ``873``, ``12.3k`` or ``1.05M``."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if samples_per_second >= 0.9995 * size:  # What rounds up to the unit is already said in it.
            return f"{samples_per_second / size:.3g}{unit}"
    return f"{samples_per_second:.3g}"


def duration(seconds: float) -> str:
    """Say a time as ``m:ss`` or ``h:mm:ss``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _spent(epsilon: float) -> str:
    return NOT_PRIVATE if math.isinf(epsilon) else f"ε={epsilon_text(epsilon)}"


def _maybe(form: str, value: float | None) -> str:
    return "" if value is None else form.format(value)


def _speed(samples_per_second: float | None, *, spare: int) -> _Figure:
    if samples_per_second is None:
        return _Figure("")
    rate = rate_text(samples_per_second)
    return _Figure(f"{rate} images/s", spare=spare, short=f"{rate}/s")


def _fit(figures: list[_Figure], width: int | None, gap: int) -> list[str]:
    texts = [figure.text for figure in figures]
    yielding = sorted((index for index, figure in enumerate(figures) if figure.spare), key=lambda i: -figures[i].spare)
    shorter = [(index, figures[index].short) for index in yielding if figures[index].short]
    for index, text in [*shorter, *((index, "") for index in yielding)]:
        if width is None or sum(len(text) + gap for text in texts if text) - gap <= width:
            break
        texts[index] = text
    return [text for text in texts if text]
