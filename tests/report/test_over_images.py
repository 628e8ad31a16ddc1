"""Intervals over images: by hand, by simulation, and what a report says of them."""

import math

import numpy as np
import pytest
from scipy import stats

from runner.commands.compare import main as compare
from runner.report.cells import read_sweep
from runner.report.findings import find
from runner.report.image_statistics import mcnemar, over_images
from runner.report.statistics import paired
from runner.report.write import write_report
from tests.report.sweep_folders import draw_nothing, write_sweep


def test_mcnemar_by_hand():
    """One of 1 + 5 images and fewer: 2 (C(6,0) + C(6,1)) / 2^6."""
    assert mcnemar(1, 5) == pytest.approx(2 * 7 / 64)
    assert mcnemar(5, 1) == mcnemar(1, 5)
    assert mcnemar(0, 6) == pytest.approx(2 / 64)
    assert mcnemar(0, 0) == mcnemar(3, 3) == 1.0


def test_one_pair_has_the_interval_of_agresti_and_min():
    """3 images right with one alone, 1 with the other alone, of 10: 3.5 and 1.5 of 12."""
    one, other = np.zeros((1, 10)), np.zeros((1, 10))
    one[0, :3], other[0, 3] = 1, 1
    difference = over_images(one, other)
    models = difference.models
    assert models.mean == pytest.approx(0.2)
    assert models.error**2 == pytest.approx(((3.5 + 1.5) - (3.5 - 1.5) ** 2 / 12) / 12**2)
    low, high = models.interval(0.95)
    assert high - low == pytest.approx(2 * models.error * stats.t.ppf(0.975, 9))
    assert np.isnan(difference.both(0.95)).all()


def test_runs_and_images_by_hand():
    """Differences of 3 runs on 4 images; the sums of squares of the two-way table are those of the definition."""
    d = np.array([[1, 0, 0, 1], [1, 0, -1, 0], [1, 1, 0, 1]])
    one, other = np.maximum(d, 0), np.maximum(-d, 0)
    found = over_images(one, other)
    of_image, of_run = np.array([3, 1, -1, 2]) / 3, np.array([2, 0, 3]) / 4
    assert found.models.mean == found.runs.mean == pytest.approx(5 / 12)
    by_images = ((9 + 1 + 1 + 4) / 9 + 1 - (5 / 3) ** 2 / 6) / 6**2
    by_runs = ((2 / 4 - 5 / 12) ** 2 + (5 / 12) ** 2 + (3 / 4 - 5 / 12) ** 2) / 2 / 3
    by_rest = ((d - of_image[None] - of_run[:, None] + 5 / 12) ** 2).sum() / 6 / 12
    assert found.models.error**2 == pytest.approx(by_images)
    assert found.runs.error**2 == pytest.approx(by_runs)
    assert found.rest == pytest.approx(by_rest)
    of_runs, of_images = stats.t.ppf(0.975, 2), stats.t.ppf(0.975, 3)
    half = math.sqrt(of_runs**2 * by_runs + of_images**2 * (by_images - by_rest))
    assert by_images > by_rest
    assert found.both(0.95) == (pytest.approx(5 / 12 - half), pytest.approx(5 / 12 + half))


def test_equal_answers_leave_room_for_other_images():
    same = np.ones((5, 100))
    found = over_images(same, same)
    assert (found.models.mean, found.models.error) == (0, pytest.approx(1 / 102))
    assert found.both(0.95)[1] >= found.models.interval(0.95)[1] > 0.019


def draw(rng, *, runs, images, of_run, of_recipe, sweeps=400):
    """Right answers [sweeps, 2, runs, images] of two recipes that are equal over all images and runs there might be."""
    image = rng.normal(size=(sweeps, 1, 1, images))
    recipe = of_recipe * rng.normal(size=(sweeps, 2, 1, images))
    run = of_run * rng.normal(size=(sweeps, 2, runs, 1))
    return image + recipe + run + 0.5 * rng.normal(size=(sweeps, 2, runs, images)) > -1.5


@pytest.mark.parametrize(
    ("runs", "images", "of_run", "of_recipe"),
    [
        (2, 150, 0.5, 0.3),
        (3, 150, 0.2, 0.3),
        (5, 153, 0.1, 1.0),
        (5, 1000, 0.1, 0.3),
        (5, 359, 0.5, 0.3),
        (20, 359, 0.1, 0.3),
    ],
)
def test_intervals_for_new_runs_and_images_cover(runs, images, of_run, of_recipe):
    """And those over runs alone do not, where recipes differ in the images that they are good at."""
    right = draw(np.random.default_rng(5), runs=runs, images=images, of_run=of_run, of_recipe=of_recipe)
    low, high = over_images(right[:, 1], right[:, 0]).both(0.95)
    assert ((low <= 0) & (high >= 0)).mean() > 0.95 - 3 * math.sqrt(0.05 * 0.95 / len(right))
    if of_recipe == 1.0 or runs == 20:
        low, high = paired(*(right[:, which].mean(axis=-1) for which in (1, 0)), resolution=1 / images).interval(0.95)
        assert ((low <= 0) & (high >= 0)).mean() < 0.88


IMAGES = 200
RNG = np.random.default_rng(3)
BASE = RNG.random((5, IMAGES)) < 0.9
OTHER = BASE.copy()
for row, (wrong, righted) in zip(OTHER, [(3, 2), (2, 3), (4, 3), (2, 2), (3, 4)], strict=True):
    row[np.flatnonzero(row)[:wrong]] = False
    row[np.flatnonzero(~row)[-righted:]] = True


def sweep_of(folder, recipes, runs=5, margin=None, **figures):
    """A sweep of {precision: right answers [runs, images]}."""
    cells = [
        (f"precision={name} seed={seed}", float(right[seed].mean()),
         {"images": IMAGES, "right": right[seed], **figures.get(name, {})})
        for name, right in recipes.items()
        for seed in range(runs)
    ]  # fmt: skip
    return write_sweep(folder, cells, comparison=margin and {"margin": margin})


def test_an_interval_for_new_images_is_not_the_narrower_one():
    right = draw(np.random.default_rng(6), runs=5, images=200, of_run=0.3, of_recipe=0.1)
    found = over_images(right[:, 1], right[:, 0])
    low, high = found.both(0.95)
    for other_low, other_high in (found.runs.interval(0.95), found.models.interval(0.95)):
        assert not ((high - low) < (other_high - other_low) - 1e-12).any()


def test_the_answer_says_what_holds_for_new_images(tmp_path, capsys, monkeypatch):
    draw_nothing(monkeypatch)
    folder = sweep_of(tmp_path, {"fp32": BASE, "bf16": OTHER}, margin=2.0, bf16={"seconds": 5.0})
    findings = find(read_sweep(folder))
    low, high = over_images(OTHER, BASE, scale=100).both(0.95)
    assert f"For training again and new images the 95% interval is {low:+.2f} pp to {high:+.2f} pp." in findings.verdict
    assert findings.verdict.startswith("Use bf16: ")
    assert "how other images" not in findings.verdict
    text = write_report(folder) and (folder / "report.md").read_text()
    assert f"{low:+.2f} to {high:+.2f}" in text
    assert "crossed random effects" in text
    assert compare([str(folder), "--by", "precision"]) == 0
    assert "For training again and new images" in capsys.readouterr().out


def test_a_reference_that_leads_is_told_of_the_other_way_round(tmp_path):
    folder = sweep_of(tmp_path, {"fp32": BASE, "bf16": OTHER}, margin=2.0, bf16={"seconds": 20.0})
    low, high = over_images(OTHER, BASE, scale=100).both(0.95)
    verdict = find(read_sweep(folder)).verdict
    assert verdict.startswith("Use fp32: ")
    assert f"the 95% interval is {-high:+.2f} pp to {-low:+.2f} pp." in verdict


def test_one_run_each_is_compared_by_images_alone(tmp_path):
    one = BASE.copy()
    one[0, np.flatnonzero(BASE[0])[:8]] = False
    one[0, np.flatnonzero(~BASE[0])[:1]] = True
    verdict = find(read_sweep(sweep_of(tmp_path, {"fp32": BASE, "bf16": one}, runs=1))).verdict
    assert "From one run a spread cannot be known" in verdict
    assert "Of the 200 images the trained models answered rightly 1 with bf16 alone and 8 with fp32 alone" in verdict
    assert "(McNemar's exact test, p = 0.039;" in verdict
    assert "about these models on new images, and not about training again" in verdict


@pytest.mark.parametrize(
    ("figures", "why"),
    [
        ({"right": None}, "run 5 kept no answers to its test images (earlier versions did not)"),
        ({"origin": "e"}, "run 5 was evaluated on other images than those before it"),
        ({"right": BASE[0]}, "the answers that run 6 kept have another accuracy than its record"),
    ],
)
def test_what_is_not_known_is_said(tmp_path, figures, why, monkeypatch):
    """Negative control: taken as they are, such files would give an interval."""
    findings = find(read_sweep(sweep_of(tmp_path, {"fp32": BASE, "bf16": BASE}, bf16=figures)))
    assert "new images" not in findings.verdict
    assert f"how other images than these {IMAGES} would be answered" in findings.verdict
    draw_nothing(monkeypatch)
    write_report(tmp_path)
    assert f"Not known over new images: {why}." in (tmp_path / "report.md").read_text()
