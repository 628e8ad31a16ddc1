"""Numbers of things as people read them."""

import pytest

from runner.config.words.pluralize import pluralize


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (1, "thread", "1 thread"),
        (0, "thread", "0 threads"),
        (12345, "update", "12,345 updates"),
        (2, "process", "2 processes"),
        (1.0, "epoch", "1 epoch"),
        (30.0216, "epoch", "30.02 epochs"),
        (0.5, "epoch", "0.5 epochs"),
    ],
)
def test_one_is_one_and_others_are_several(number, noun, text):
    assert pluralize(number, noun) == text
