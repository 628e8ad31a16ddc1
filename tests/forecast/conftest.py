"""Assessments that several tests look at, made once."""

import pytest

SMALL = ("tracker=none", "hardware=cpu", "hardware.threads=1", "data=digits", "data.limit=200", "model=linear")


@pytest.fixture
def assessed(configure):
    """assessed("key=value", ...) -> the assessment of a small recipe; ``probe=True`` makes some of its steps."""
    from runner.forecast.assess import assess

    def assessed(*overrides, probe=False):
        return assess(configure(*SMALL, *overrides), probe=probe)

    return assessed
