"""Privacy figures as text: correctly rounded decimals that never promise more than was computed."""

import math
import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.privacy.accounting.privacy_text import certainty_text, delta_text, epsilon_text, odds_text, one_in
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("epsilon", "text"),
    [
        *((1.1, "1.10"), (1.2, "1.20"), (2.99, "2.99"), (2.9901, "3.00"), (3, "3.00"), (9.995, "10.00"), (0.0, "0.00")),
        *((0.29, "0.29"), (0.57, "0.57"), (1.15, "1.15"), (4.35, "4.35"), (1.001, "1.01"), (1234.561, "1234.57")),
        *((0.1, "0.10"), (0.0999, "0.10"), (0.05, "0.05"), (0.0123, "0.013"), (0.001, "0.001"), (0.00101, "0.0011")),
        *((1e-6, "0.000001"), (1e-9, "0.000001"), (math.inf, "inf"), (math.nan, "nan")),
    ],
)
def test_epsilon(epsilon, text):
    assert epsilon_text(epsilon) == text


def test_a_ceiling_of_the_binary_product_would_print_other_figures():
    assert [f"{math.ceil(100 * epsilon) / 100:.2f}" for epsilon in (1.1, 0.001)] == ["1.11", "0.01"]
    cents = [cent / 100 for cent in range(10, 2000)]
    assert [epsilon_text(epsilon) for epsilon in cents] == [f"{epsilon:.2f}" for epsilon in cents]
    assert sum(f"{math.ceil(100 * epsilon) / 100:.2f}" != f"{epsilon:.2f}" for epsilon in cents) > 50


@given(st.floats(min_value=1e-12, max_value=1e6))
def test_epsilon_is_never_shown_smaller_and_hardly_larger(epsilon):
    shown, exact = Decimal(epsilon_text(epsilon)), Decimal(repr(epsilon))
    assert shown >= exact
    assert shown - exact < max(Decimal("0.01") if epsilon >= 0.1 else exact / 10, Decimal("0.000001"))


@given(st.floats(min_value=1e-15, max_value=0.5))
def test_delta_is_never_shown_smaller(delta):
    assert Decimal(delta) <= Decimal(delta_text(delta)) * (1 + Decimal("1e-15"))
    assert float(delta_text(delta)) <= 1.01 * delta
    number = int(one_in(delta).removeprefix("1 in ").replace(",", ""))
    assert 0.99 / delta - 1 <= number <= (1 + 1e-12) / delta


def test_small_probabilities():
    assert [delta_text(delta) for delta in (1e-5, 6.95894e-6, 6.951e-6)] == ["1e-05", "6.96e-06", "6.96e-06"]
    assert [one_in(delta) for delta in (1e-5, 6.96e-6, 3e-9, 0.3)] == [
        *("1 in 100,000", "1 in 143,000", "1 in 333,000,000", "1 in 3")
    ]


@pytest.mark.parametrize(
    ("epsilon", "odds", "certainty"),
    [
        (0.0, "1.00 to 1", "50.0 %"),
        (0.5, "1.65 to 1", "62.3 %"),
        (1.0, "2.72 to 1", "73.2 %"),
        (3.0, "20.1 to 1", "95.3 %"),
        (8.0, "2,990 to 1", "99.97 %"),
        (20.0, "486,000,000 to 1", "99.9999998 %"),
        (40.0, "unlimited", "100 %"),
        (math.inf, "unlimited", "100 %"),
    ],
)
def test_odds_and_certainty(epsilon, odds, certainty):
    assert (odds_text(epsilon), certainty_text(epsilon)) == (odds, certainty)


@given(st.floats(min_value=0.0, max_value=34.0))
def test_odds_and_certainty_are_never_shown_smaller(epsilon):
    odds = Decimal(epsilon).exp()
    assert Decimal(odds_text(epsilon).removesuffix(" to 1").replace(",", "")) >= odds * (1 - Decimal("1e-12"))
    shown = Decimal(certainty_text(epsilon).removesuffix(" %"))
    assert 100 * odds / (1 + odds) * (1 - Decimal("1e-15")) <= shown < 100


def test_no_other_place_rounds_an_epsilon():
    rounded = re.compile(r"ceil\(100|(epsilon|claimed|lower_bound|measurable)[\w.()]*:[\d,]*\.\d+[fg]")
    files = sorted((ROOT / "runner").rglob("*.py"))
    assert [path.name for path in files if rounded.search(path.read_text())] == []
    assert rounded.search('f"{math.ceil(100 * x)}"')
    assert rounded.search('f"{entry.epsilon:.2f}"')
