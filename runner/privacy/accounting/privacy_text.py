"""Privacy figures as text, rounded so that they never promise more than was computed."""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal

_LEAST = 1e-6


def epsilon_text(epsilon: float) -> str:
    """An upper bound ε to two decimals, below 0.1 to two digits, rounded up; ``inf`` or ``nan`` where it is none.

    Rounding starts from the shortest decimal that means this float: 100 times the float 1.1 is more than 110, and a
    ceiling of that would print 1.11.  What lies below a millionth is called one.
    """
    if not math.isfinite(epsilon):
        return str(epsilon)
    exact = _decimal(epsilon)
    if exact >= Decimal("0.1") or exact <= 0:
        return str(exact.quantize(Decimal("0.01"), ROUND_CEILING))
    text = f"{Context(prec=2, rounding=ROUND_CEILING).plus(max(exact, _decimal(_LEAST))):f}"
    whole, _, decimals = text.partition(".")
    return f"{whole}.{decimals.rstrip('0').ljust(2, '0')}"


def lower_bound_text(epsilon: float) -> str:
    """What ε is at least, shown or to be asked for, to two decimals, rounded down."""
    return str(_decimal(epsilon).quantize(Decimal("0.01"), ROUND_FLOOR)) if math.isfinite(epsilon) else str(epsilon)


def delta_text(delta: float) -> str:
    """A δ to three digits, rounded up, such as ``1e-05`` or ``6.96e-06``."""
    return f"{float(Context(prec=3, rounding=ROUND_CEILING).plus(_decimal(delta))):g}"


def one_in(delta: float) -> str:
    """A small probability as ``1 in 100,000``, never less probable than it is: the number is rounded down."""
    times = 1 / _decimal(delta)
    places = max(0, times.adjusted() - 2)
    return f"1 in {int(times.scaleb(-places).to_integral_value(ROUND_FLOOR)) * 10**places:,}"


def odds_text(epsilon: float) -> str:
    """What even odds become at most, e^ε, as ``20.1 to 1``: three digits, rounded up; ``unlimited`` beyond 10^15."""
    if not epsilon < math.log(1e15):
        return "unlimited"
    odds = Context(prec=3, rounding=ROUND_CEILING).plus(_decimal(epsilon).exp())
    return f"{odds:,.{max(0, 2 - odds.adjusted())}f} to 1"


def certainty_text(epsilon: float) -> str:
    """The certainty e^ε / (1 + e^ε) in percent, rounded up: to a decimal, or to as many as keep it below 100 %."""
    if not epsilon < math.log(1e15):
        return "100 %"
    odds = _decimal(epsilon).exp()
    certainty = 100 * odds / (1 + odds)
    for places in range(1, 20):
        rounded = certainty.quantize(Decimal(1).scaleb(-places), ROUND_CEILING)
        if rounded < 100:
            return f"{rounded} %"
    raise AssertionError(certainty)


def _decimal(number: float) -> Decimal:
    """The shortest decimal that means ``number``."""
    return Decimal(repr(float(number)))
