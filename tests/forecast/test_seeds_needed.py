"""How many seeds a question needs, from sweeps that asked it before."""

import contextlib
import math
from types import SimpleNamespace

import pytest

from runner.config.schema import ComparisonConfig
from runner.forecast.forecast import Interval
from runner.forecast.seeds_needed import describe_seeds, forecast_seeds
from tests.report.sweep_folders import write_sweep

ONE_SEED = Interval(expected=6.0, low=3.0, high=12.0)
ASKED = ComparisonConfig(margin=1.0, until="decided", max_seeds=40)


def plan(fingerprint="d"):
    splits = (SimpleNamespace(name="train", examples=1000), SimpleNamespace(name="test", examples=500))
    return SimpleNamespace(
        as_dict=lambda: {"semantic": {"data": {"fingerprint": fingerprint}, "steps": 100}}, splits=splits
    )


@pytest.fixture
def asked(tmp_path):
    """asked(comparison) -> the forecast for two precisions with five seeds, in an empty folder."""

    def asked(comparison=ASKED, fingerprint="d", varied=("precision", "seed"), seeds=5):
        with contextlib.chdir(tmp_path):
            return forecast_seeds(comparison, [plan(fingerprint)], varied, recipes=2, seeds=seeds)

    return asked


def earlier(folder, *differences):
    """A sweep whose pairs differ by these percentage points."""
    folder.mkdir(parents=True)
    cells = []
    for seed, difference in enumerate(differences):
        cells.append((f"precision=fp32 seed={seed}", 0.90 + seed / 500))
        cells.append((f"precision=bf16 seed={seed}", 0.90 + seed / 500 + difference / 100))
    write_sweep(folder, cells)


def test_without_an_earlier_sweep_it_says_so_and_what_a_pilot_costs(asked):
    found = asked()
    assert (found.spread, found.needed, found.resolution) == (None, None, 0.2)
    assert describe_seeds(found, cells=2, seconds=ONE_SEED) == [
        "seeds      not known: below outputs/ no sweep has asked this of these data and models",
        "           the first look would tell: 10 runs, 30 s (15 s to 60 s)",
        "margin     one of 500 test images is 0.20 pp",
    ]
    fixed = asked(ComparisonConfig(margin=1.0), seeds=1)
    assert "a pilot (seeds=5) would tell" in describe_seeds(fixed, cells=2, seconds=ONE_SEED)[1]


def test_a_pilot_gives_a_range(asked, tmp_path):
    earlier(tmp_path / "outputs" / "one", -1.0, 0.0, 1.0)
    found = asked()
    assert found.spread.pairs == 3
    assert found.spread.expected == pytest.approx(1.0)
    # chi-square with two degrees of freedom is -2 ln p
    assert found.spread.low == pytest.approx(math.sqrt(2 / (-2 * math.log(0.05))))
    assert found.spread.high == pytest.approx(math.sqrt(2 / (-2 * math.log(0.95))))
    low, expected, high = found.needed
    assert low < expected / 1.4 < 2 * expected < high
    lines = describe_seeds(found, cells=2, seconds=ONE_SEED)
    assert lines[0] == "seeds      20 to 320 a recipe, 28 by the spread as measured, to show a margin of 1.00 pp"
    assert lines[2] == "           28 seeds are 56 runs, 2.8 min (84 s to 5.6 min)"
    # the margin that so many seeds show, as planned for: a tighter one needs more
    assert list(found.margins) == [5, 7, 10, 14, 20, 28, 40]
    assert found.margins[40] < 1.0 < found.margins[10]
    assert asked(ComparisonConfig(margin=found.margins[20], until="decided")).needed[1] == pytest.approx(20, abs=1)


def test_more_pairs_narrow_it_and_other_questions_do_not_count(asked, tmp_path):
    earlier(tmp_path / "outputs" / "one", -1.0, 0.0, 1.0)
    before = asked().spread
    earlier(tmp_path / "outputs" / "deeper" / "two", *(-1.0, 0.0, 1.0) * 4)
    spread = asked().spread
    assert (spread.pairs, len(spread.sweeps)) == (15, 2)
    assert spread.high / spread.low < before.high / before.low / 2
    assert asked(fingerprint="other data").spread is None
    assert asked(varied=("precision", "optimizer.lr")).spread is None
    (tmp_path / "outputs" / "one" / "0" / "run.json").write_text("{")
    assert asked().spread.pairs >= 12, "what cannot be read is no reason not to plan"


def test_nothing_finer_than_an_image_is_promised(asked, tmp_path):
    earlier(tmp_path / "outputs" / "one", *[0.0] * 20)
    found = asked(ComparisonConfig(until="decided"))
    assert found.margin == 0.2
    assert min(found.margins.values()) == 0.2
    assert "no smaller margin can be shown" in describe_seeds(found, cells=2, seconds=ONE_SEED)[-2]
