"""Which recipe is recommended, from sweeps whose figures are known."""

import numpy as np
import pytest
from scipy.special import stdtrit

from runner.config.looks import count_looks, plan_looks
from runner.config.schema import ComparisonConfig
from runner.report.cells import read_sweep
from runner.report.decision import decide_sweep
from runner.report.findings import find
from runner.report.question import ask
from runner.report.recipes import group
from tests.report.sweep_folders import write_sweep

NOISE = np.array([0.1, -0.2, 0.05, 0.15, -0.1, 0.02, -0.07, 0.12, -0.11, 0.04])


def decided(folder, recipes, *, cells=(), **wanted):
    """The decision on {precision: (accuracies in percent, a status or None for no cell; by seed), seconds}."""
    written = []
    for name, (outcomes, seconds) in recipes.items():
        for seed, outcome in enumerate(outcomes):
            value = outcome if isinstance(outcome, str) else outcome / 100
            written.append((f"precision={name} seed={seed}", value, {"seconds": seconds * (1 + seed / 100)}))
    sweep = read_sweep(write_sweep(folder, [*written, *cells]))
    question = ask(sweep, ComparisonConfig(**wanted))
    return decide_sweep(group(sweep, question), question)


def test_the_looks():
    assert plan_looks(40) == (5, 7, 10, 14, 20, 28, 40)
    assert plan_looks(60) == (5, 7, 10, 14, 20, 28, 40, 56, 60)
    assert plan_looks(3) == (3,)
    assert plan_looks(5) == (5,)


@pytest.mark.parametrize("level", [0.0125, 0.001])
def test_looks_see_again_what_those_before_them_saw(level):
    """The level of each of seven looks, so that a claim at any of them is false with probability ``level`` at most."""
    looks, values = plan_looks(40), np.random.default_rng(0).standard_normal((40, 200_000), np.float32)
    each = level / count_looks(len(looks))
    claimed = np.zeros(values.shape[1], bool)
    for seeds in looks:
        sample = values[:seeds]
        t = np.sqrt(seeds) * sample.mean(axis=0) / sample.std(axis=0, ddof=1)
        claimed |= t > stdtrit(seeds - 1, 1 - each)
    error = 3 * np.sqrt(level / values.shape[1])
    assert claimed.mean() <= level + error
    # control: it is less than the number of looks that a level is divided by, but not much less
    assert claimed.mean() > 0.6 * level


def test_the_cheapest_that_is_shown_to_lie_within_the_margin(tmp_path):
    found = decided(tmp_path, {"fp32": (97 + NOISE[:5], 20), "bf16": (97 + NOISE[:5][::-1], 10)}, margin=2.0)
    assert (found.leader, found.decided, found.in_question, found.next_look) == ("bf16", True, (), None)


def test_of_equal_costs_the_reference(tmp_path):
    found = decided(tmp_path, {"fp32": (97 + NOISE[:5], 10), "bf16": (97 + NOISE[:5][::-1], 10)}, margin=2.0)
    assert (found.leader, found.decided) == ("fp32", True)


@pytest.mark.parametrize("seeds", [1, 2, 4])
def test_too_few_runs_recommend_nothing(tmp_path, seeds):
    found = decided(tmp_path, {"fp32": (97 + NOISE[:seeds], 20), "bf16": (97 + NOISE[:seeds], 10)}, margin=2.0)
    assert (found.leader, found.decided) == ("bf16", False)


def test_a_worse_recipe_drops_out_and_the_others_go_on(tmp_path):
    recipes = {
        "fp32": (97 + NOISE, 20),
        "bf16": (97 + NOISE[::-1], 10),
        "fp16": ([*(90 + NOISE[:5]), *["not_started"] * 5], 5),
    }
    wanted = {"margin": 0.2, "until": "decided"}
    first = decided(tmp_path / "5", {name: (values[:5], s) for name, (values, s) in recipes.items()}, **wanted)
    assert not first.decided
    assert [(one.label, one.reason, one.look) for one in first.dropped] == [("fp16", "worse", 5)]
    assert (first.in_question, first.look, first.next_look) == (("fp32", "bf16"), 5, 7)
    second = decided(tmp_path / "10", recipes, **wanted)
    assert (second.look, second.dropped) == (10, first.dropped)


def test_between_looks_nothing_further_is_looked_at(tmp_path):
    """Seeds 5 and 6 are the second look's, and 7 and 8 the third's: nobody chooses when to look."""
    values = [97.0, 97.4, 96.6, 97.2, 96.8, 97, 97, 97, 97]
    others = [97.4, 96.6, 97.2, 96.8, 97.0, 97, 97, 97, 97]
    wanted = {"margin": 0.5, "until": "decided"}
    nine = decided(tmp_path / "9", {"fp32": (values, 20), "bf16": (others, 10)}, **wanted)
    seven = decided(tmp_path / "7", {"fp32": (values[:7], 20), "bf16": (others[:7], 10)}, **wanted)
    assert nine == seven
    assert (nine.look, nine.next_look, nine.decided) == (7, 10, False)
    ten = decided(tmp_path / "10", {"fp32": ([*values, 97], 20), "bf16": ([*others, 97], 10)}, **wanted)
    assert ten.look == 10


def test_a_recipe_that_always_fails_drops_out(tmp_path):
    recipes = {"fp32": (97 + NOISE[:5], 20), "fp16": (["failed"] * 5, 10)}
    found = decided(tmp_path, recipes, margin=2.0, until="decided")
    assert [(one.label, one.reason) for one in found.dropped] == [("fp16", "failures")]
    assert (found.leader, found.decided) == ("fp32", True)


@pytest.mark.parametrize(
    ("cells", "wanted", "words"),
    [
        (
            [(f"precision={name} seed={seed}", 0.97, {"seconds": cost})
             for name, cost in (("fp32", 20), ("bf16", 10)) for seed in range(4)],
            {"margin": 2.0},
            "Missing: that it lies within 2.00 pp of fp32. To settle it: `python -m runner --multirun"
            " precision=fp32,fp16 comparison.until=decided` (about 5 min to 10 seeds",
        ),
        (
            [(f"precision={name} data.folds=3 data.fold={fold}", (97 + fold * gap) / 100, {"seconds": 10})
             for name, gap in (("fp32", 0), ("bf16", 3)) for fold in range(3)],
            {"margin": 0.5},
            "no more of the same folds can show that, a larger margin or more data can.",
        ),
        (
            [(f"precision={name} seed={seed}", (97 + sign * (seed % 2 * 4 - 2)) / 100, {"seconds": 10})
             for name, sign in (("fp32", 1), ("bf16", -1)) for seed in range(5)],
            {"margin": 0.5, "until": "decided", "max_seeds": 5},
            "; 5 seeds did not show it, so ask for a larger margin.",
        ),
        (
            [(f"precision={name} seed={seed}", "running" if (name, seed) == ("bf16", 4) else (97 + NOISE[seed]) / 100,
              {"seconds": cost}) for name, cost in (("fp32", 20), ("bf16", 10)) for seed in range(6)],
            {"margin": 2.0},
            "Missing: the 1 cell still to end. To go on: `python -m runner --multirun precision=fp32,fp16 seed=0,1"
            " hydra.sweep.dir=",
        ),
    ],
    ids=["seeds", "folds", "the last look", "cells of a fixed grid"],
)  # fmt: skip
def test_what_would_settle_it_is_named(tmp_path, cells, wanted, words):
    verdict = find(read_sweep(write_sweep(tmp_path, cells)), ComparisonConfig(**wanted)).verdict
    assert "So far" in verdict
    assert words in verdict
    assert "Use " not in verdict


def test_a_fixed_grid_is_decided_once_all_of_it_has_ended(tmp_path):
    cells = [(f"precision={name} seed={seed}", (97 + NOISE[seed]) / 100, {"seconds": cost})
             for name, cost in (("fp32", 20), ("bf16", 10)) for seed in range(6)]  # fmt: skip
    assert "Use bf16" in find(read_sweep(write_sweep(tmp_path, cells)), ComparisonConfig(margin=2.0)).verdict


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(7, "Cheaper, but not shown to lie within the margin: fp32"),
     (14, "Not shown to be dearer, nor to lie within the margin: fp32")],
)  # fmt: skip
def test_what_was_waited_for_is_called_cheaper_only_where_it_is(tmp_path, seconds, words):
    """At the last look, of a first recipe that is a little worse, and whose cost scatters."""
    cells = [
        (f"precision={name} seed={seed}", (level + NOISE[seed] * scatter) / 100, {"seconds": cost})
        for seed in range(5)
        for name, level, scatter, cost in (
            ("fp32", 95.3, 3, seconds * (0.3, 3, 1, 2, 0.5)[seed]), ("bf16", 97, 1, 10), ("fp16", 97, -1, 30))
    ]  # fmt: skip
    wanted = ComparisonConfig(margin=2.0, until="decided", max_seeds=5)
    verdict = find(read_sweep(write_sweep(tmp_path, cells)), wanted).verdict
    assert verdict.startswith("Use bf16")
    assert words in verdict
