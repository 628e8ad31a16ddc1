"""The learning rate over a run: its share of the peak, as a pure function of the step.

Updates are counted from 0.  Warm-up over w updates gives update t < w the share s + (1 - s) (t + 1) / w with
s = ``warmup_start``: update 0 already moves the weights, and update w - 1 is at the peak.  The decay then runs over the
remaining updates and counts from 0 again, so update w is at the peak too.  Epochs in options (``gamma`` per epoch,
``step_epochs``) count from the end of warm-up.

A schedule is built as ``f(*, steps, steps_per_epoch, **options)`` with ``steps`` those after warm-up; a new one is a
class here or elsewhere and a YAML file.  This module does not import torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from runner.config.schema import SchedulerConfig
from runner.config.untrusted.target_arguments import target_arguments
from runner.config.untrusted.targets import locate
from runner.config.words.unknown_option import unknown_option
from runner.errors import RequestError

_FROM_THE_RUN = ("steps", "steps_per_epoch")


class Schedule(Protocol):
    """The share of the peak learning rate at each update."""

    def factor(self, step: int) -> float:
        """Number by which the peak learning rate is multiplied at update ``step``, from 0."""

    def observe(self, metric: float, better: Literal["higher", "lower"]) -> None:
        """Take note of a validation result, NaN where it is not finite; only ``Plateau`` acts on it."""

    def state_dict(self) -> dict[str, float | int | None]:
        """What a resumed run needs beyond the step: nothing, but for ``Plateau``."""

    def load_state_dict(self, state: dict[str, float | int | None]) -> None:
        """Restore what ``state_dict`` gave."""


def build_schedule(config: SchedulerConfig, *, steps: int, steps_per_epoch: float) -> Schedule:
    """Build the schedule of a run of ``steps`` updates, warm-up included.

    Raises:
        RequestError: for a class or option that there is not, an option out of its range, or a warm-up that is longer
            than the run.
    """
    _refuse(0.0 <= config.warmup_start <= 1.0, "warmup_start", config.warmup_start, "a number in [0, 1]")
    _refuse(config.warmup_epochs >= 0.0, "warmup_epochs", config.warmup_epochs, "a number >= 0")
    warmup = round(config.warmup_epochs * steps_per_epoch)
    if warmup > steps:
        longest = steps / steps_per_epoch
        raise RequestError("scheduler.warmup_epochs", config.warmup_epochs, f"at most the run's {longest:g} epochs")
    factory = locate("scheduler", config.target)
    arguments = target_arguments(factory)
    names = [name for name in arguments.named if name not in _FROM_THE_RUN]
    for option, value in config.options.items():
        if option not in names and (option in _FROM_THE_RUN or not arguments.takes_others):
            raise unknown_option(
                f"scheduler.{option}", value, names, f" for scheduler={config.name}", target=config.target
            )
    decay = factory(steps=max(1, steps - warmup), steps_per_epoch=steps_per_epoch, **config.options)
    return WarmUp(decay, steps=warmup, start=config.warmup_start) if warmup else decay


class WarmUp:
    """A linear rise over the first ``steps`` updates, then ``after``."""

    def __init__(self, after: Schedule, *, steps: int, start: float) -> None:
        self.after = after
        self._steps = steps
        self._start = start

    def factor(self, step: int) -> float:
        """Share of the peak at update ``step``."""
        if step < self._steps:
            return self._start + (1.0 - self._start) * (step + 1) / self._steps
        return self.after.factor(step - self._steps)

    def observe(self, metric: float, better: Literal["higher", "lower"]) -> None:
        """Pass ``metric`` on: a plateau counts evaluations during warm-up as well."""
        self.after.observe(metric, better)

    def state_dict(self) -> dict[str, float | int | None]:
        """State of the schedule after warm-up."""
        return self.after.state_dict()

    def load_state_dict(self, state: dict[str, float | int | None]) -> None:
        """Restore what ``state_dict`` gave."""
        self.after.load_state_dict(state)


@dataclass(frozen=True, kw_only=True)
class Constant:
    """The peak, always."""

    steps: int
    """Updates after warm-up."""
    steps_per_epoch: float
    """Updates in a pass over the data; may be a fraction under Poisson sampling."""

    def factor(self, step: int) -> float:
        """Share of the peak at update ``step``."""
        return 1.0

    def observe(self, metric: float, better: Literal["higher", "lower"]) -> None:
        """Ignore ``metric``: the schedule is a function of the step alone."""

    def state_dict(self) -> dict[str, float | int | None]:
        """Nothing: the schedule is a function of the step alone."""
        return {}

    def load_state_dict(self, state: dict[str, float | int | None]) -> None:
        """Nothing to restore."""


@dataclass(frozen=True, kw_only=True)
class Linear(Constant):
    """1 - (1 - f) t / n at update t of n: a straight line whose next point, after the last update, would be f."""

    final_factor: float = 0.0

    def __post_init__(self) -> None:
        _refuse_share("final_factor", self.final_factor)

    def factor(self, step: int) -> float:
        """Share of the peak at update ``step``."""
        return 1.0 - (1.0 - self.final_factor) * step / self.steps


@dataclass(frozen=True, kw_only=True)
class Cosine(Constant):
    """f + (1 - f) (1 + cos(pi t / n)) / 2 at update t of n (Loshchilov and Hutter 2017, equation 5, without restarts).

    As there, f belongs to t = n, after the last update: the last one still moves the weights when f is 0.
    """

    final_factor: float = 0.0

    def __post_init__(self) -> None:
        _refuse_share("final_factor", self.final_factor)

    def factor(self, step: int) -> float:
        """Share of the peak at update ``step``."""
        return self.final_factor + (1.0 - self.final_factor) * 0.5 * (1.0 + math.cos(math.pi * step / self.steps))


@dataclass(frozen=True, kw_only=True)
class Exponential(Constant):
    """``gamma`` to the power of the epochs done, fractions included: the same factor from each update to the next.

    The last of n updates is at gamma to the power of (n - 1) / ``steps_per_epoch``.
    """

    gamma: float = 0.9

    def __post_init__(self) -> None:
        _refuse_factor("gamma", self.gamma)

    def factor(self, step: int) -> float:
        """Share of the peak at update ``step``."""
        return self.gamma ** (step / self.steps_per_epoch)


@dataclass(frozen=True, kw_only=True)
class Step(Constant):
    """Multiplied by ``gamma`` after every ``step_epochs`` epochs, at the first update that starts beyond them."""

    step_epochs: float = 10.0
    gamma: float = 0.1

    def __post_init__(self) -> None:
        _refuse(self.step_epochs > 0.0, "step_epochs", self.step_epochs, "a number > 0")
        _refuse_factor("gamma", self.gamma)

    def factor(self, step: int) -> float:
        """Share of the peak at update ``step``."""
        # The allowance keeps a quotient that is whole in exact arithmetic from falling to the number below.
        return self.gamma ** math.floor(step / (self.step_epochs * self.steps_per_epoch) + 1e-9)


class Plateau:
    """Multiplied by ``factor`` after more than ``patience`` evaluations in a row without a gain of ``threshold``.

    A gain is relative to the best result so far; a result that is not finite is none.  The one schedule that depends
    on results, and so the one with state.
    """

    def __init__(
        self,
        *,
        steps: int,
        steps_per_epoch: float,
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        min_factor: float = 0.0,
    ) -> None:
        _refuse(0.0 < factor < 1.0, "factor", factor, "a number in (0, 1)")
        _refuse(isinstance(patience, int) and patience >= 0, "patience", patience, "a whole number >= 0")
        _refuse_share("threshold", threshold)
        _refuse_share("min_factor", min_factor)
        self._reduction = factor
        self._patience = patience
        self._threshold = threshold
        self._min_factor = min_factor
        self._current = 1.0
        self._best: float | None = None
        self._stale = 0

    def factor(self, step: int) -> float:
        """Share of the peak at update ``step``, given what was observed so far."""
        return self._current

    def observe(self, metric: float, better: Literal["higher", "lower"]) -> None:
        """Count an evaluation with result ``metric``."""
        if self._is_gain(metric, better):
            self._best, self._stale = metric, 0
        else:
            self._stale += 1
        if self._stale > self._patience:
            self._current, self._stale = max(self._current * self._reduction, self._min_factor), 0

    def _is_gain(self, metric: float, better: Literal["higher", "lower"]) -> bool:
        if not math.isfinite(metric):
            return False
        if self._best is None or not math.isfinite(self._best):
            return True
        if better == "higher":
            return metric > self._best * (1.0 + self._threshold)
        return metric < self._best * (1.0 - self._threshold)

    def state_dict(self) -> dict[str, float | int | None]:
        """Current share, best result, and evaluations since."""
        return {"current": self._current, "best": self._best, "stale": self._stale}

    def load_state_dict(self, state: dict[str, float | int | None]) -> None:
        """Restore what ``state_dict`` gave."""
        self._current, self._best, self._stale = (state[key] for key in ("current", "best", "stale"))  # type: ignore[assignment]


def _refuse(valid: bool, option: str, value: Any, expected: str) -> None:
    if not valid:
        raise RequestError(f"scheduler.{option}", value, expected)


def _refuse_share(option: str, value: float) -> None:
    _refuse(0.0 <= value <= 1.0, option, value, "a number in [0, 1]")


def _refuse_factor(option: str, value: float) -> None:
    _refuse(0.0 < value <= 1.0, option, value, "a number in (0, 1]")
