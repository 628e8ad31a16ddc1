"""Plans of small runs."""

import pytest

from runner.data.open import open_data
from runner.planning.build import build_plan
from runner.planning.device import detect_device


@pytest.fixture
def plan_of(configure):
    """The plan of a run with these overrides."""

    def plan(*overrides):
        config = configure("data.limit=300", "hardware=cpu", *overrides)
        return build_plan(config, open_data(config.data), detect_device(config.hardware), processes=1)

    return plan
