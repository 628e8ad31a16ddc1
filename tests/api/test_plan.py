import contextlib
import json

import pytest

from runner import RequestError, plan


@pytest.fixture(autouse=True)
def folder(tmp_path):
    with contextlib.chdir(tmp_path):
        yield tmp_path


def test_a_plan_has_intervals_and_leaves_nothing(folder):
    found = plan("trainer=dp", "model=linear", "tracker=none", probe=False, **{"privacy.epsilon": 3})
    assert found.seconds.low < found.seconds.expected < found.seconds.high
    assert found.memory.low < found.memory.expected < found.memory.high
    assert found.epsilon == pytest.approx(3, abs=0.01)
    assert json.loads(json.dumps(found.as_dict()))["forecast"]["seconds"]["low"] == found.seconds.low
    assert "privacy    ε=3.00" in repr(found)
    assert not (folder / "outputs").exists()


def test_a_sweep_has_no_plan_of_one_run(folder):
    with pytest.raises(RequestError, match=r"plan\(\): got model=linear seeds=2, expected one run"):
        plan("model=linear", seeds=2)
