"""Per-class figures against scikit-learn, calibration by hand."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from runner.inference.picture import draw_confusion
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
