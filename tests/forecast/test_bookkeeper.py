"""The accountant of a private run works in another process, where that saves the time that torch takes to load."""

import os
import sys
from types import SimpleNamespace

import pytest

from runner.data.open import open_data
from runner.forecast import bookkeeper as module
from runner.forecast.bookkeeper import bookkeeper, call_here
from runner.planning.privacy_plan import plan_privacy


@pytest.mark.parametrize("overrides", [[], ["trainer=dp"]], ids=["ordinary", "private"])
def test_a_process_with_torch_keeps_its_books_itself(configure, overrides):
    assert "torch" in sys.modules
    with bookkeeper(configure("data.limit=200", *overrides)) as call:
        assert call is call_here


def test_one_without_torch_has_the_noise_solved_elsewhere(configure, monkeypatch):
    monkeypatch.setattr(module, "sys", SimpleNamespace(modules={}))
    config = configure("data.limit=200", "trainer=dp")
    asked = {"examples": len(open_data(config.data).train), "validated": True, "processes": 1}
    with bookkeeper(config) as call:
        assert call(os.getpid) != os.getpid()
        assert call(plan_privacy, config, **asked) == plan_privacy(config, **asked)
