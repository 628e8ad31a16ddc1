"""Accountants: upper bounds on epsilon for Poisson-sampled Gaussian steps.

Every figure holds for neighbouring data sets that differ by one added or removed example, for batches in which each
example is present independently with probability ``sample_rate``, and for noise of standard deviation
``noise_multiplier`` times the clipping norm.  None of it holds for shuffled batches of a fixed size.

Accountants, each an upper bound:

- ``pld``: privacy loss distributions with pessimistic rounding (Doroshenko et al. 2022, dp-accounting), the tightest,
  summed such that they hold at any delta (``tilted_losses.py``).
- ``prv``: privacy random variables (Gopi et al. 2021, Opacus), the upper end of its error interval; refused where what
  its Fourier transforms err by is not small beside delta.
- ``rdp``: Renyi differential privacy (Mironov et al. 2019, dp-accounting), the loosest, good at any delta.

The central limit approximation (GDP) is left out: it reports 1.63 where the answer is 1.85.
"""

from __future__ import annotations

import bisect
import functools
import importlib
import math
import warnings
from collections.abc import Callable, Sequence
from types import ModuleType

from runner.errors import RequestError, nearest

ACCOUNTANTS = ("pld", "prv", "rdp")
ADJACENCY = "add_or_remove_one"

Mechanism = tuple[float, float, int]
"""Sampling rate, noise multiplier, number of updates."""

# The bounds were compared with exact values down to this (``tests/privacy/accounting_campaign.py``), which is a tenth
# of one over a thousand million examples.
SMALLEST_DELTA = 1e-10
# Enough orders to size a grid within a few percent, without the fractional ones that may fail to converge.
_SIZING_ORDERS = (2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 128, 256, 512, 1024)
# Privacy loss distributions: grid of the reported figure, and how much coarser the one for progress lines is.
_LOSS_GRID = 2e-4
_COARSER = 5.0
_GRID_NOTCHES = 4
"""In each factor of two."""
# PRV: half-width of the error interval in epsilon, added in full to what is reported.
PRV_ERROR = 0.01
_PRV_PROGRESS_ERROR = 0.05
_PRV_POINTS = 1 << 23


def default_delta(n: int) -> float:
    """The largest power of ten <= 1 / (10 n) for ``n`` examples, and at most 1e-5."""
    return float(f"1e-{max(5, len(str(10 * n - 1)))}")


def epsilon(accountant: str, *, sample_rate: float, noise_multiplier: float, steps: int, delta: float) -> float:
    """An upper bound on epsilon at ``delta`` after ``steps`` updates: 0.0 for no step, infinite without noise.

    Raises:
        RequestError: a value outside its range, or one that this accountant cannot represent.
    """
    check_mechanism(accountant, sample_rate, noise_multiplier, steps, delta)
    if steps == 0:
        return 0.0
    if noise_multiplier == 0.0:
        return math.inf
    return _epsilon(accountant, sample_rate, noise_multiplier, steps, delta)


@functools.lru_cache(maxsize=1024)
def _epsilon(accountant: str, sample_rate: float, noise_multiplier: float, steps: int, delta: float) -> float:
    # the search for the noise, the plan, the run and its record ask for the same figure
    return curve(accountant, sample_rate, noise_multiplier, delta, steps, coarse=False)(steps)


def quick_rdp(sample_rate: float, noise_multiplier: float, steps: int, delta: float) -> float:
    """A bound by Renyi divergences of a few integer orders: a millisecond, to size grids and to start searches."""
    return _rdp(sample_rate, noise_multiplier, delta, _SIZING_ORDERS)(steps)


def quick_rdp_steps(sample_rate: float, noise_multiplier: float, delta: float, budget: float, most: int) -> int:
    """The largest number of updates in [1, ``most``] within ``budget`` by the bound of ``quick_rdp``, at least 1."""
    if noise_multiplier == 0.0:
        return 1
    bound = _rdp(sample_rate, noise_multiplier, delta, _SIZING_ORDERS)
    return max(1, bisect.bisect_right(range(most + 1), budget, key=lambda count: bound(count) if count else 0.0) - 1)


def coarse_pld(sample_rate: float, noise_multiplier: float, steps: int, delta: float) -> Callable[[int], float]:
    """The ``pld`` bound on the grid for ``steps`` updates, five times coarser: looser and ten times as fast.

    For searches; of the number of updates.
    """
    return _pld(sample_rate, noise_multiplier, delta, steps, coarse=True)


def pld_of_all(mechanisms: Sequence[Mechanism], delta: float) -> float:
    """The ``pld`` bound on what unlike updates spend together, on one grid that suits their sum.

    Renyi divergences give the size of the answer, and thereby the grid.
    """
    return _pld_of_all(tuple(mechanisms), delta)


@functools.lru_cache(maxsize=8)
def _pld_of_all(mechanisms: tuple[Mechanism, ...], delta: float) -> float:
    # a sweep asks for the same figure when a cell has ended that adds nothing, in the end, and for its report
    size = rdp_of_all(mechanisms, delta)
    total = sum(count for _, _, count in mechanisms)
    grid, cut = _loss_grid(size, total), _mass_cut(total, delta)
    return _library().epsilon_of_sum(
        [(_library().loss_distribution(rate, noise, grid, cut), count) for rate, noise, count in mechanisms],
        grid=grid,
        delta=delta,
    )


def rdp_of_all(mechanisms: Sequence[Mechanism], delta: float) -> float:
    """The ``rdp`` bound on what unlike updates spend together."""
    found = [(count, *_library().renyi_divergences(rate, noise, None)) for rate, noise, count in mechanisms]
    # The orders are the library's own and the same for all.
    return _library().epsilon_of_divergences(
        found[0][1], sum(count * divergences for count, _, divergences in found), delta
    )


def rdp_at(order: int, mechanisms: Sequence[Mechanism], delta: float) -> float:
    """The bound on what unlike updates spend together by the Renyi divergence of one ``order`` alone."""
    found = [(count, *_library().renyi_divergences(rate, noise, (order,))) for rate, noise, count in mechanisms]
    return _library().epsilon_of_divergences(
        found[0][1], sum(count * divergences for count, _, divergences in found), delta
    )


def divergence_at(order: int, sample_rate: float, noise_multiplier: float) -> float:
    """The Renyi divergence of one update at one ``order``."""
    return float(_library().renyi_divergences(sample_rate, noise_multiplier, (order,))[1][0])


def epsilon_of_selection(
    sample_rate: float, noise_multiplier: float, steps: int, *, mean: float, shape: float, delta: float
) -> float:
    """The ``rdp`` bound on the best of a random number of runs, from a negative binomial distribution.

    Papernot and Steinke 2022 (arXiv:2110.03620), theorem 2, as dp-accounting has it.
    """
    event = _library().selection_event(sample_rate, noise_multiplier, steps, mean=mean, shape=shape)
    return float(_library().renyi_accountant(event, None).get_epsilon(delta))


def check_mechanism(accountant: str, sample_rate: float, noise_multiplier: float, steps: int, delta: float) -> None:
    """Refuses values that no accountant, or not this one, can account for.

    Raises:
        RequestError: naming the key at fault and its range.
    """
    if accountant not in ACCOUNTANTS:
        expected = "one of " + ", ".join(ACCOUNTANTS)
        raise RequestError("privacy.accountant", accountant, expected, nearest=nearest(accountant, ACCOUNTANTS))
    if not 0.0 < sample_rate <= 1.0:
        raise RequestError("data.batch_size", f"a sampling rate of {sample_rate:g}", "a rate in (0, 1]")
    if not 0.0 <= noise_multiplier < math.inf:
        raise RequestError("privacy.noise_multiplier", noise_multiplier, "a finite number >= 0")
    if steps < 0:
        raise RequestError("trainer.steps", steps, "an integer >= 0")
    if not 0.0 < delta < 1.0:
        raise RequestError("privacy.delta", delta, "a probability above 0 and below 1")
    if accountant != "rdp" and delta < SMALLEST_DELTA:
        expected = f"at least {SMALLEST_DELTA:g} with accountant {accountant}, or privacy.accountant=rdp"
        raise RequestError("privacy.delta", delta, expected)


def load_libraries(accountant: str) -> None:
    """Import what ``accountant`` imports when it is first asked, for a process whose memory is measured."""
    _library().reset_absl_stream()
    if accountant == "prv":
        importlib.import_module("runner.privacy.accounting.prv_lengths")


def curve(
    accountant: str, sample_rate: float, noise_multiplier: float, delta: float, steps: int, *, coarse: bool
) -> Callable[[int], float]:
    """Epsilon as a function of the number of updates, prepared for up to ``steps`` of them."""
    if accountant == "rdp":
        return _rdp(sample_rate, noise_multiplier, delta, None)
    if accountant == "prv":
        return _prv(sample_rate, noise_multiplier, delta, coarse=coarse)
    return _pld(sample_rate, noise_multiplier, delta, steps, coarse=coarse)


def _pld(
    sample_rate: float, noise_multiplier: float, delta: float, steps: int, *, coarse: bool
) -> Callable[[int], float]:
    size = quick_rdp(sample_rate, noise_multiplier, steps, delta)
    grid = _loss_grid(size, steps) * (_COARSER if coarse else 1.0)
    one = _library().loss_distribution(sample_rate, noise_multiplier, grid, _mass_cut(steps, delta))
    return lambda count: _library().epsilon_of_sum([(one, count)], grid=grid, delta=delta)


def _mass_cut(steps: int, delta: float) -> float:
    """Logarithm of the mass of one update that may count as infinitely costly: of all updates, a millionth of delta."""
    wanted = math.log(1e-6 * delta / steps)
    return min(-50.0, 10.0 * math.floor(wanted / 10.0))  # in notches, see ``_loss_grid``


def _loss_grid(size: float, steps: int) -> float:
    """Spacing of the grid of losses for ``steps`` updates that cost about ``size`` in epsilon."""
    # Connecting the dots errs by about steps * grid^2 / 4 (measured).  The grid widens with epsilon, which keeps
    # the number of points bounded, and narrows for very small epsilon, to the same relative accuracy.
    relative = 1e-3 * size if size > 0.0 else _LOSS_GRID  # so little that Renyi divergences say nothing
    wanted = min(_LOSS_GRID, math.sqrt(4e-3 / steps), relative) * max(1.0, size / 20.0)
    # In notches, so that nearly equal lengths share one distribution: half of what a figure costs is making it.
    return 2.0 ** (math.floor(_GRID_NOTCHES * math.log2(wanted)) / _GRID_NOTCHES)


@functools.cache
def _library() -> ModuleType:
    """What calls dp-accounting, which takes 0.6 s to load: when the first bound is asked for."""
    from runner.privacy.accounting import dp_accounting_calls

    return dp_accounting_calls


def _rdp(
    sample_rate: float, noise_multiplier: float, delta: float, orders: tuple[int, ...] | None
) -> Callable[[int], float]:
    # Divergences of the same order add up over steps.
    every, divergences = _library().renyi_divergences(sample_rate, noise_multiplier, orders)
    return lambda count: _library().epsilon_of_divergences(every, count * divergences, delta)


def _prv(sample_rate: float, noise_multiplier: float, delta: float, *, coarse: bool) -> Callable[[int], float]:
    from runner.privacy.accounting.prv_lengths import FastLengths

    def at(count: int) -> float:
        # The mesh has about 2 * (loss range) / (error / sqrt(count * log(12000 / delta) / 2)) points.
        error = _PRV_PROGRESS_ERROR if coarse else PRV_ERROR
        spread = 2.0 * (quick_rdp(sample_rate, noise_multiplier, count, delta / 4000) + 3.0)
        points = spread * math.sqrt(count * math.log(12e3 / delta) / 2.0) / error
        error *= max(1.0, points / _PRV_POINTS)
        # Gopi et al. 2021 bound the error for small half-widths only.
        if error > 0.5:
            raise _prv_refusal(sample_rate, noise_multiplier, count, delta)
        accountant = FastLengths()
        accountant.history = [(noise_multiplier, sample_rate, count)]
        try:
            # The library takes logarithms of zero on purpose and warns that its Renyi orders could be more.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                bound = float(accountant.get_epsilon(delta, eps_error=error))
        except (ArithmeticError, ValueError, RuntimeError, MemoryError) as failure:
            raise _prv_refusal(sample_rate, noise_multiplier, count, delta) from failure
        if not math.isfinite(bound):
            raise _prv_refusal(sample_rate, noise_multiplier, count, delta)
        return bound

    return at


def _prv_refusal(sample_rate: float, noise_multiplier: float, steps: int, delta: float) -> RequestError:
    expected = (
        f"pld or rdp: prv cannot represent sampling rate {sample_rate:g}, "
        f"noise multiplier {noise_multiplier:g}, {steps} steps and delta {delta:g}"
    )
    return RequestError("privacy.accountant", "prv", expected)
