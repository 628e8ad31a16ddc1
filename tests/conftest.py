"""What every test gets: no leaks into the process, and short ways to compose and to run a real recipe."""

import os
from pathlib import Path

import pytest

# pytest notes the phase of the test; torch sets the folder of its compiler when its first optimizer is made
_SET_BY_LIBRARIES = {"PYTEST_CURRENT_TEST", "TORCHINDUCTOR_CACHE_DIR"}
ROOT = Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(items):
    import torch

    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(autouse=True)
def _nothing_leaks(tmp_path, monkeypatch):
    """Environment variables, working folder and torch's switches are as before; caches go to a folder of the test run."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    before = _process_state()
    yield
    after = _process_state()
    changed = {key: (before.get(key), after.get(key)) for key in before | after if before.get(key) != after.get(key)}
    assert not changed, f"left behind: {changed}"


def _process_state():
    import torch

    return {
        **{key: value for key, value in os.environ.items() if key not in _SET_BY_LIBRARIES},
        "working folder": Path.cwd(),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "benchmark": torch.backends.cudnn.benchmark,
    }
