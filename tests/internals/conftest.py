import pytest

from runner.internals.plain import PLAIN_VARIABLE, plain_torch


@pytest.fixture(autouse=True)
def _both_ways(monkeypatch):
    """The detours are what is tested here, whatever the switch says around it."""
    monkeypatch.setenv(PLAIN_VARIABLE, "0")
    plain_torch.cache_clear()
    yield
    monkeypatch.undo()
    plain_torch.cache_clear()
