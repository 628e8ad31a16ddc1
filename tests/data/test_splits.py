import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.data.splits import TEST, VAL, hold_out, hold_out_fold, thin
from runner.errors import RequestError

CLASSES = tuple("abcdefghij")


def labels_of(counts):
    return np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))


def held(labels, fraction, *, seed=0, purpose=VAL):
    return hold_out(
        labels, fraction, seed=seed, purpose=purpose, key="data.val_fraction", classes=CLASSES[: max(labels) + 1]
    )


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(2, 60), min_size=2, max_size=10), st.floats(0.02, 0.9))
def test_a_hold_out_parts_the_examples_and_takes_every_class_in_proportion(counts, fraction):
    labels = labels_of(counts)
    kept, out = held(labels, fraction)
    assert sorted([*kept, *out]) == list(range(len(labels)))
    given_away = np.bincount(labels[out], minlength=len(counts))
    assert (given_away >= 1).all()
    assert (given_away <= np.array(counts) - 1).all()
    assert (np.abs(given_away - fraction * np.array(counts)) <= 1 + 1e-9).all()


def test_the_total_is_exact_where_single_classes_would_all_round_down():
    _, out = held(labels_of([14] * 10), 0.1)
    assert len(out) == 14


def test_a_selection_depends_on_its_seed_and_purpose_and_is_pinned():
    labels = np.arange(24) % 2
    first = held(labels, 0.25)[1]
    assert np.array_equal(first, held(labels, 0.25)[1])
    assert not np.array_equal(first, held(labels, 0.25, seed=1)[1])
    assert not np.array_equal(first, held(labels, 0.25, purpose=TEST)[1])
    assert first.tolist() == PINNED


# Changing this list silently changes every user's validation split.
PINNED = [4, 7, 10, 11, 15, 18]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(5, 40), min_size=2, max_size=10), st.integers(2, 5))
def test_folds_part_the_examples_evenly_overall_and_in_every_class(counts, folds):
    labels = labels_of(counts)
    tests = [hold_out_fold(labels, i, folds, seed=3, classes=CLASSES[: len(counts)])[1] for i in range(folds)]
    assert sorted(np.concatenate(tests)) == list(range(len(labels)))
    assert np.ptp([len(fold) for fold in tests]) <= 1
    for number in range(len(counts)):
        assert np.ptp([np.count_nonzero(labels[fold] == number) for fold in tests]) <= 1
    kept, out = hold_out_fold(labels, 0, folds, seed=3, classes=CLASSES[: len(counts)])
    assert sorted([*kept, *out]) == list(range(len(labels)))


@pytest.mark.parametrize("fold", [-1, 5, 6])
def test_a_fold_that_does_not_exist_is_refused(fold):
    with pytest.raises(RequestError, match=rf"^data.fold: got {fold}, expected a number from 0 to 4 \(data.folds=5\)$"):
        hold_out_fold(labels_of([9, 9]), fold, 5, seed=0, classes=CLASSES[:2])


def test_a_class_too_small_to_split_is_named():
    with pytest.raises(
        RequestError, match=r"^data.val_fraction: got 0.1 with 1 example of class b, expected at least 2"
    ):
        held(labels_of([10, 1]), 0.1)
    with pytest.raises(RequestError, match=r"^data.folds: got 5 with 4 examples of class a"):
        hold_out_fold(labels_of([4, 10]), 0, 5, seed=0, classes=CLASSES[:2])


def test_thinning_keeps_the_shares_and_one_of_each_class():
    labels = labels_of([900, 90, 10])
    chosen = thin(labels, 100, seed=0, classes=CLASSES[:3])
    assert np.bincount(labels[chosen]).tolist() == [90, 9, 1]
    assert len(chosen) == 100
    assert (np.diff(chosen) > 0).all()
    assert np.bincount(labels[thin(labels, 3, seed=0, classes=CLASSES[:3])]).tolist() == [1, 1, 1]
    assert len(thin(labels, 5000, seed=0, classes=CLASSES[:3])) == 1000
    with pytest.raises(RequestError, match=r"^data.limit: got 2, expected at least 3, one example for each class$"):
        thin(labels, 2, seed=0, classes=CLASSES[:3])
