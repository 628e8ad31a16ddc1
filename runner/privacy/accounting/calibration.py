"""Calibration of epsilon, noise and length: two are given, the third is searched by the reported accountant."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

from runner.errors import RequestError
from runner.privacy.accounting import accountants
from runner.privacy.accounting.privacy_text import epsilon_text, lower_bound_text

LEAST_NOISE = 0.05
MOST_NOISE = 1e4
MOST_STEPS = 10_000_000

# Epsilon may stay below its target by this much, or by this share of a target below 1.
_SLACK = 2e-3
# Evaluations of a function that only finds a place to start from: its curve may have steps, on which a search lingers.
_TRIES = 10
# Noise multipliers are rounded up to a millionth, so that the figure in a record is the figure that was used.
_NOISE_UNITS = 1e6


@dataclass(frozen=True, kw_only=True)
class CalibratedMechanism:
    """A mechanism with nothing left open."""

    noise_multiplier: float
    steps: int
    epsilon: float
    """What it spends, as it is reported."""
    solved: str
    """Which of the three followed from the others."""


@functools.lru_cache(maxsize=256)
def calibrate_mechanism(
    accountant: str,
    *,
    epsilon: float | None,
    noise_multiplier: float | None,
    steps: int | None,
    delta: float,
    sample_rate: float,
) -> CalibratedMechanism:
    """Solve for the one that is null: the noise, else the number of updates; with both, ``epsilon`` is what they spend.

    Raises:
        RequestError: nothing in range meets the target, epsilon is infinite, or a value is outside its range.
    """
    solved = "epsilon"
    if noise_multiplier is None:
        assert epsilon is not None, "two of the three are given"
        assert steps is not None, "two of the three are given"
        solved = "noise_multiplier"
        noise_multiplier = solve_noise_multiplier(
            accountant, epsilon=epsilon, delta=delta, sample_rate=sample_rate, steps=steps
        )
    elif steps is None:
        assert epsilon is not None, "two of the three are given"
        solved = "steps"
        steps = solve_length(
            accountant, epsilon=epsilon, delta=delta, sample_rate=sample_rate, noise_multiplier=noise_multiplier
        )
    spent = accountants.epsilon(
        accountant, sample_rate=sample_rate, noise_multiplier=noise_multiplier, steps=steps, delta=delta
    )
    if not math.isfinite(spent):
        raise RequestError("privacy.noise_multiplier", noise_multiplier, "enough noise for a finite epsilon")
    return CalibratedMechanism(noise_multiplier=noise_multiplier, steps=steps, epsilon=spent, solved=solved)


def solve_noise_multiplier(accountant: str, *, epsilon: float, delta: float, sample_rate: float, steps: int) -> float:
    """The noise multiplier whose reported epsilon after ``steps`` updates lies just below the target ``epsilon``.

    The result, rounded to 1e-6, is in (epsilon - 0.002 min(1, epsilon), epsilon] (by ``prv``, at least 0.0002 wide),
    checked with the function that reports it.  The search walks from Renyi's answer over a coarse grid and touches the
    fine one at the end.

    Raises:
        RequestError: no noise multiplier from 0.05 to 10,000 meets the target; or a value outside its range.
    """
    _check_target(epsilon)
    accountants.check_mechanism(accountant, sample_rate, MOST_NOISE, steps, delta)
    if steps == 0:
        raise RequestError("trainer.steps", steps, "an integer >= 1")

    def reported(noise: float) -> float:
        return accountants.epsilon(
            accountant, sample_rate=sample_rate, noise_multiplier=noise, steps=steps, delta=delta
        )

    def by_renyi(noise: float) -> float:
        return accountants.quick_rdp(sample_rate, noise, steps, delta)

    def on_coarse_grid(noise: float) -> float:
        return accountants.coarse_pld(sample_rate, noise, steps, delta)(steps) + _above_pld(accountant, epsilon)

    start, _, slope = _noise_for(by_renyi, epsilon, 1.0, slack=0.05, tries=_TRIES)
    if accountant != "rdp":
        start, _, slope = _noise_for(on_coarse_grid, epsilon, start, slope=slope, tries=_TRIES)
    # Where epsilon is little more than the error interval of prv, its last digits are noise, on which a search lingers.
    slack = max(_SLACK, 0.02 * accountants.PRV_ERROR / min(1.0, epsilon)) if accountant == "prv" else _SLACK
    noise, found, _ = _noise_for(reported, epsilon, start, slope=slope, slack=slack)
    if found > epsilon:
        raise RequestError(
            "privacy.epsilon", epsilon, f"at least {epsilon_text(found)}, which noise multiplier {noise:g} gives"
        )
    if noise == LEAST_NOISE:
        raise RequestError(
            "privacy.epsilon", epsilon, f"at most {lower_bound_text(found)}, which noise multiplier {noise:g} gives"
        )
    return noise


def solve_steps(accountant: str, *, epsilon: float, delta: float, sample_rate: float, noise_multiplier: float) -> int:
    """The largest number of updates, up to ten million, whose reported epsilon does not pass ``epsilon``; 0 for none.

    Raises:
        RequestError: a value outside its range.
    """
    _check_target(epsilon)

    def reported(steps: int) -> float:
        return accountants.epsilon(
            accountant, sample_rate=sample_rate, noise_multiplier=noise_multiplier, steps=steps, delta=delta
        )

    accountants.check_mechanism(accountant, sample_rate, noise_multiplier, 1, delta)
    if noise_multiplier == 0.0:
        return 0
    start, power = accountants.quick_rdp_steps(sample_rate, noise_multiplier, delta, epsilon, MOST_STEPS), 2.0
    if accountant != "rdp":
        coarse = accountants.coarse_pld(sample_rate, noise_multiplier, start, delta)
        start, power = _last_within(
            lambda steps: coarse(steps) + _above_pld(accountant, epsilon),
            epsilon,
            start,
            slack=_SLACK * min(1.0, epsilon),
        )
    return _last_within(reported, epsilon, max(start, 1), power=power)[0]


def solve_length(accountant: str, *, epsilon: float, delta: float, sample_rate: float, noise_multiplier: float) -> int:
    """``solve_steps`` for a run: at least one update, and an end.

    Raises:
        RequestError: not even one update fits, or more than ten million do; or a value outside its range.
    """
    mechanism = {"sample_rate": sample_rate, "noise_multiplier": noise_multiplier, "delta": delta}
    steps = solve_steps(accountant, epsilon=epsilon, **mechanism)
    if steps == 0:
        one = accountants.epsilon(accountant, steps=1, **mechanism)
        raise RequestError(
            "privacy.epsilon",
            epsilon,
            f"at least {epsilon_text(one)}, which one update costs at noise multiplier {noise_multiplier:g}",
        )
    if steps == MOST_STEPS:
        raise RequestError("trainer.epochs", None, f"a number: more than {MOST_STEPS:,} updates fit the budget")
    return steps


def _above_pld(accountant: str, epsilon: float) -> float:
    """What ``accountant`` adds to an epsilon that ``pld`` has found, about.

    Nothing where ``epsilon`` is not much larger than that: the searches then begin on the side where they need not end.
    """
    return accountants.PRV_ERROR if accountant == "prv" and epsilon > 10 * accountants.PRV_ERROR else 0.0


def _last_within(
    function: Callable[[int], float], epsilon: float, start: int, *, power: float = 2.0, slack: float = 0.0
) -> tuple[int, float]:
    """The largest argument, from 0 to ten million, at which the rising ``function`` does not pass ``epsilon``.

    With ``slack`` it is any at which the function is above ``epsilon - slack``, where there is one.  ``power`` of
    epsilon is how the argument grows, until two points are known; what was found of it comes back beside the argument.
    """
    fits, fails = (0, 0.0), (MOST_STEPS + 1, math.inf)
    steps, stalled = start, 0
    while fails[0] - fits[0] > 1 and fits[1] <= epsilon - slack:
        width = fails[0] - fits[0]
        steps = min(max(steps, fits[0] + 1), fails[0] - 1)
        found = function(steps)
        if found <= epsilon:
            power = _power(fits, (steps, found), power)
            fits = (steps, found)
        else:
            fails = (steps, found)
            power = _power(fits, fails, power)
        stalled = stalled + 1 if fails[0] - fits[0] > width // 2 else 0
        steps = _next_steps(fits, fails, power, epsilon, bisect=stalled > 2)
    return fits[0], power


def _power(fewer: tuple[int, float], more: tuple[int, float], before: float) -> float:
    """The power of epsilon with which the updates grow between two points; ``before`` where they do not tell."""
    if 0.0 < fewer[1] < more[1] < math.inf:
        return math.log(more[0] / fewer[0]) / math.log(more[1] / fewer[1])
    return before


def _next_steps(
    fits: tuple[int, float], fails: tuple[int, float], power: float, epsilon: float, *, bisect: bool
) -> int:
    """Where to look next between two counts of updates, of which the first fits the budget and the second does not."""
    if math.isinf(fails[1]):
        # The doubling keeps an accountant from being asked about a length far beyond the budget.
        growth = min((epsilon / fits[1]) ** power, 2.0) if fits[1] > 0.0 else 2.0
        return math.floor(fits[0] * growth) + 1
    if bisect or fits[1] <= 0.0 or fits[1] == fails[1]:
        return (fits[0] + fails[0]) // 2
    return math.floor(fits[0] * (epsilon / fits[1]) ** power)


def _noise_for(
    function: Callable[[float], float],
    target: float,
    start: float,
    *,
    slope: float = -1.0,
    slack: float = _SLACK,
    tries: int | None = None,
) -> tuple[float, float, float]:
    """The noise at which the falling ``function`` is just below ``target``, its value there, and its slope.

    A secant in logarithms, where the curve is nearly straight, kept inside the bracket found so far; ``slope`` is taken
    until two points are known.  What is handed on is at most -1, for epsilon falls at least as fast as noise grows;
    divergences of few orders can be flat.  Where no noise in range meets the target, the end of the range comes back,
    for the caller to judge; after ``tries`` evaluations, the latest.
    """
    width = slack * min(1.0, target)
    aim = math.log(target - width / 2)
    too_little, too_much = LEAST_NOISE, MOST_NOISE
    noise, earlier = start, None
    while True:
        noise = math.ceil(min(max(noise, LEAST_NOISE), MOST_NOISE) * _NOISE_UNITS) / _NOISE_UNITS
        found = function(noise)
        here = (math.log(noise), math.log(found)) if 0.0 < found < math.inf else None
        if here is not None and earlier is not None and earlier[0] != here[0]:
            slope = min((earlier[1] - here[1]) / (earlier[0] - here[0]), -0.1)
        tries = None if tries is None else tries - 1
        if target - width < found <= target or tries == 0:
            return noise, found, min(slope, -1.0)
        if found > target:
            if noise >= MOST_NOISE:
                return noise, found, min(slope, -1.0)
            too_little = max(too_little, noise)
        else:
            # The last rounding unit can be wider than the slack: the safe side of it is the answer then.
            if noise <= LEAST_NOISE or noise - too_little < 1.5 / _NOISE_UNITS:
                return noise, found, min(slope, -1.0)
            too_much = min(too_much, noise)
        noise = _next_noise(here, slope, aim, too_little, too_much)
        earlier = here


def _next_noise(
    here: tuple[float, float] | None, slope: float, aim: float, too_little: float, too_much: float
) -> float:
    middle = math.sqrt(too_little * too_much)
    if here is None:
        return middle
    guess = math.exp(min(max(here[0] + (aim - here[1]) / slope, -20.0), 20.0))
    if guess <= too_little:
        return LEAST_NOISE if too_little == LEAST_NOISE else middle
    if guess >= too_much:
        return MOST_NOISE if too_much == MOST_NOISE else middle
    return guess


def _check_target(epsilon: float) -> None:
    if not 0.0 < epsilon < math.inf:
        raise RequestError("privacy.epsilon", epsilon, "a finite number above 0")
