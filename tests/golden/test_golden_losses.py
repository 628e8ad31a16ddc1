"""The numbers of every trainer and precision are those that are kept; a changed recipe is seen."""

import pytest

from tests.golden.golden_losses import RECIPES, TOLERANCES, deviation, kept, measure


@pytest.mark.parametrize("name", RECIPES)
def test_losses_are_those_that_are_kept(tmp_path, name):
    assert deviation(measure(name, tmp_path), kept(name)) <= TOLERANCES[name], (
        "`make golden` renews them, if it is meant"
    )


CHANGES = {
    "standard": "optimizer.lr=0.0525",
    "mixed_precision_fp16": "optimizer.lr=0.0525",
    "mixed_precision_bf16": "optimizer.lr=0.00525",
    "dp": "privacy.max_grad_norm=1.05",
    "dp_bf16": "privacy.max_grad_norm=1.05",
    "dp_fp16": "privacy.max_grad_norm=1.05",
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_of_five_percent_is_seen(tmp_path, name):
    assert deviation(measure(name, tmp_path, CHANGES[name]), kept(name)) > TOLERANCES[name]
