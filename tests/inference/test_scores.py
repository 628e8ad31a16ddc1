"""Per-class figures against scikit-learn, calibration by hand."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from runner.disk.json_files import read_json
from runner.inference.confusion_plot import draw_confusion, undrawn
from runner.inference.results import Results, write_results
from runner.inference.scores import score


def test_per_class_figures_are_those_of_scikit_learn():
    random = np.random.default_rng(0)
    labels, predicted = random.integers(0, 5, 300), random.integers(0, 6, 300)
    labels[labels == 3], predicted[predicted == 2] = 4, 1  # a class without images, one that is never predicted
    scores = score(labels, predicted, np.full(300, 0.5), classes=tuple("abcdef"))
    wanted = precision_recall_fscore_support(labels, predicted, labels=range(6), zero_division=0)
    found = [[getattr(one, name) for one in scores.classes] for name in ("precision", "recall", "f1", "images")]
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    np.testing.assert_array_equal(scores.confusion, confusion_matrix(labels, predicted, labels=range(6)))
    assert scores.accuracy == (labels == predicted).mean()
    assert scores.macro_f1 == pytest.approx(np.mean([wanted[2][k] for k in (0, 1, 2, 4)]))


def test_calibration_error_is_the_weighted_gap():
    # three bins in use: (0.6, 0.667] 2 images, one right; (0.867, 0.933] 3 images, all right; and 1.0, wrong
    confidence = np.array([0.62, 0.64, 0.9, 0.9, 0.9, 1.0])
    right = np.array([1, 0, 1, 1, 1, 0])
    scores = score(np.zeros(6, dtype=np.int64), 1 - right, confidence, classes=("no", "yes"))
    assert scores.calibration_error == pytest.approx((2 * 0.13 + 3 * 0.1 + 1.0) / 6)
    assert [one.images for one in scores.calibration if one.images] == [2, 3, 1]
    assert len(scores.calibration) == 15


def test_perfect_confidence_has_no_calibration_error():
    labels = np.arange(4)
    assert score(labels, labels, np.ones(4), classes=tuple("abcd")).calibration_error == 0


@pytest.mark.parametrize("count", [2, 12, 120])
def test_a_picture_for_any_number_of_classes(count):
    names = [f"a rather long name of class {number}" for number in range(count)]
    picture = draw_confusion(np.eye(count, dtype=np.int64) * 3, names, title="t")
    assert picture.startswith(b"\x89PNG")
    assert picture == draw_confusion(np.eye(count, dtype=np.int64) * 3, names, title="t")


def test_letters_without_a_font_are_boxes_and_one_note():
    names = ["cat", "\u732b", "\U00010900"]
    assert draw_confusion(np.eye(3, dtype=np.int64), names, title="t").startswith(b"\x89PNG")  # warnings are errors
    assert undrawn(["cat", "Stra\u00dfe"]) is None
    assert "\U00010900" in undrawn(names)


def results_of(labels, predicted, names):
    """Results and what they were made of, without a run."""
    confidence = np.full(len(labels), 0.5)
    scores = score(labels, predicted, confidence, classes=names)
    known = {field.name: None for field in dataclasses.fields(Results)}
    found = Results(**known | {"name": "r", "images_from": "test", "images": len(labels), "loss": 1.0, "scores": scores,
                               "notes": (), "skipped": ()})  # fmt: skip
    subject = SimpleNamespace(
        data=SimpleNamespace(classes=names),
        labelled=True,
        images=SimpleNamespace(labels=labels),
        file_name=lambda position: f"{position}.png",
    )
    return found, SimpleNamespace(predicted=predicted, confidence=confidence), subject


def test_many_classes_are_written_by_what_there_is(tmp_path):
    """A square of 10,000 classes would have 100,000,000 counts and take 1.1 GB as text."""
    labels = np.arange(20_000) % 10_000
    predicted = (labels + (labels % 3 == 0)) % 10_000
    results, answers, subject = results_of(labels, predicted, [f"class {n}" for n in range(10_000)])
    told = write_results(tmp_path, results, answers, subject)
    assert told.notes == ("no picture of 10,000 classes (at most 1,000)",)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 4e6
    metrics = read_json(tmp_path / "inference.json")["metrics"]
    assert metrics["confusion"] is None
    pairs = metrics["confusion_pairs"]
    assert sum(pairs["images"]) == 20_000
    assert (pairs["true"][3], pairs["predicted"][3], pairs["images"][3]) == (3, 4, 2)


def test_the_pairs_are_the_square(tmp_path):
    draws = np.random.default_rng(0)
    labels, predicted = draws.integers(0, 6, 200), draws.integers(0, 6, 200)
    scores = score(labels, predicted, np.full(200, 0.5), classes=list("abcdef"))
    square = np.zeros((6, 6), dtype=np.int64)
    for true, called, images in scores.pairs:
        square[true, called] += images
    np.testing.assert_array_equal(square, scores.confusion)


NAMES = ["$a$b$", "caf\udce9"]


@pytest.mark.parametrize("fails", [False, True])
def test_a_picture_that_fails_takes_no_results_with_it(tmp_path, monkeypatch, fails):
    def fail(*_, **__):
        raise ValueError("no\nfont")

    if fails:
        monkeypatch.setattr("runner.inference.confusion_plot.draw_confusion", fail)
    labels = np.array([0, 1, 1])
    told = write_results(tmp_path, *results_of(labels, labels, NAMES))
    assert read_json(tmp_path / "inference.json")["metrics"]["accuracy"] == 1.0
    assert "caf\\udce9" in (tmp_path / "predictions.csv").read_text()
    assert (tmp_path / "confusion.png").exists() != fails
    assert told.notes == (("no picture of the confusion matrix: no font",) if fails else ())
