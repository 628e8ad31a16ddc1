"""What has misled readers of such reports: each case by itself, with a control that shows it would be seen."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from runner.report import pareto
from runner.report.cells import read_sweep
from runner.report.comparison import Verdict
from runner.report.decision import COSTS
from runner.report.findings import find
from runner.report.question import Metric, Question
from tests.report.decision_simulation import Setting, claims, draw
from tests.report.sweep_folders import write_sweep

SWEEPS = 2000
BOUND = 0.05 + 3 * np.sqrt(0.05 * 0.95 / SWEEPS)
NOISE = np.array([0.1, -0.2, 0.05, 0.15, -0.1])


def found(folder, recipes, *, first_seeds=(0, 0), images=None):
    """Findings of a sweep of {precision: accuracies in percent}, the seeds of each counted from one of its own."""
    cells = [
        (f"precision={name} seed={first + number}", value / 100, {"images": images})
        for (name, values), first in zip(recipes.items(), first_seeds, strict=True)
        for number, value in enumerate(values)
    ]
    return find(read_sweep(write_sweep(folder, cells)))


@pytest.mark.parametrize("seeds", [2, 3, 4])
def test_of_few_runs_that_share_no_seed_nothing_is_claimed(tmp_path, seeds):
    """Welch's test is wrong in over 5 % of such sweeps where the spreads differ."""
    few = found(tmp_path / "few", {"fp32": 97 + NOISE[:seeds], "bf16": 80 + NOISE[:seeds]}, first_seeds=(0, 50))
    assert [one.verdict for one in few.comparisons] == [Verdict.UNDECIDED]
    enough = found(tmp_path / "enough", {"fp32": 97 + NOISE, "bf16": 80 + NOISE}, first_seeds=(0, 50))
    assert [one.verdict for one in enough.comparisons] == [Verdict.DIFFERENT]


@pytest.mark.parametrize(
    ("looks", "unplanned"),
    [((3, 12), 0.06), (tuple(range(3, 41)), 0.11)],
    ids=["a pilot, topped up", "a seed at a time"],
)
def test_looking_again_is_paid_for(monkeypatch, looks, unplanned):
    """Equal recipes, judged after a pilot and again after more seeds, or after each seed."""
    setting = Setting("", (0, 0), looks=looks)
    quality, _, failed = draw(np.random.default_rng(3), setting, SWEEPS)
    assert claims(setting, quality, failed)[0].mean() <= BOUND
    monkeypatch.setattr("tests.report.decision_simulation.count_looks", lambda number: 1)
    assert claims(setting, quality, failed)[0].mean() > unplanned


def test_a_recommendation_says_that_it_is_about_seeds_and_not_about_images(tmp_path):
    verdict = found(tmp_path, {"fp32": 97 + NOISE, "bf16": 97 + NOISE[::-1]}, images=359).verdict
    assert "the claim is about training again on this split" in verdict
    assert "; how other images than these 359 would be answered." in verdict
    unknown = found(tmp_path / "unknown", {"fp32": 97 + NOISE, "bf16": 97 + NOISE[::-1]}).verdict
    assert "how other images" not in unknown, "no number of images to speak of"


def test_identical_comes_with_the_number_of_pairs_and_what_an_image_is(tmp_path):
    right = np.array([340, 341, 343]) / 3.59
    same = found(tmp_path, {"fp32": right, "bf16": right}, images=359)
    assert [one.verdict for one in same.comparisons] == [Verdict.IDENTICAL]
    assert "identical in each of 3 pairs: no spread to infer anything from, and one of 359 images is 0.28 pp" in (
        same.verdict
    )
    other = found(tmp_path / "other", {"fp32": right, "bf16": right + np.array([0, 0, 1]) / 3.59}, images=359)
    assert "identical" not in other.verdict, "one image of one pair"


def test_equal_recipes_are_seldom_called_dominated(monkeypatch):
    """Four recipes of one truth on a noisy machine: by the means alone most sweeps have one that is dominated."""
    rng = np.random.default_rng(4)
    question = Question(metric=Metric("test_accuracy"), margin=0.2, confidence=0.95, by=("precision",), reference=None)
    recipes = tuple(SimpleNamespace(label=str(number), mean=lambda figure: None) for number in range(4))
    said, by_means, sweeps = 0, 0, 400
    for _ in range(sweeps):
        quality, seconds = rng.normal(97, 0.1, (4, 5, 1)), np.exp(rng.normal(0, 0.07, (4, 5, 1)))
        front = front_of(monkeypatch, quality, seconds, recipes, question)
        said += any(one.dominated_by for one in front.entries)
        near = quality.mean(axis=(1, 2)) >= quality.mean(axis=(1, 2))[:, None] - 0.2
        by_means += bool((near & (seconds.mean(axis=(1, 2)) < 0.98 * seconds.mean(axis=(1, 2))[:, None])).any())
    assert said / sweeps <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / sweeps)
    assert by_means / sweeps > 0.5
    slow = np.exp(rng.normal(0, 0.07, (4, 5, 1))) * np.array([1, 1, 1, 3])[:, None, None]
    front = front_of(monkeypatch, rng.normal(97, 0.01, (4, 5, 1)), slow, recipes, question)
    last = front.entries[3]
    assert (len(last.dominated_by), last.beaten_in) == (3, ("seconds",))


def front_of(monkeypatch, quality, seconds, recipes, question):
    """The front of figures [K, n, 1] of which no memory is known."""
    unknown = np.full(seconds.shape, np.nan)
    repeats = SimpleNamespace(
        names=range(seconds.shape[1]),
        shared_training=0.0,
        array=lambda figure: seconds if figure is COSTS["seconds"] else unknown,
    )
    monkeypatch.setattr(pareto, "read_repeats", lambda grouping: repeats)
    monkeypatch.setattr(pareto, "qualities", lambda *_: quality)
    return pareto.find_front(SimpleNamespace(recipes=recipes), replace(question))
