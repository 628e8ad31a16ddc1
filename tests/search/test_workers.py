"""Several workers on one study, as processes of their own, and one of them killed."""

import json

import pytest

from tests.search import postgres, workers

FEW = {"rates": ("0.05", workers.DIVERGES), "seeds": ("0", "1")}


@pytest.fixture(scope="module")
def database():
    """URL of an empty database in a running server."""
    if postgres.binaries() is None:
        pytest.skip(
            "no PostgreSQL server here: `python -m tests.search.postgres`, which `make test` calls, installs one"
        )
    with postgres.server() as url:
        yield url


def test_two_workers_on_postgresql_of_which_one_is_killed(database, tmp_path):
    """Four trials, two of which fail: none is run twice or lost, and what the dead worker had is taken up."""
    doomed, heir = tmp_path / "doomed", tmp_path / "heir"
    first, second = (workers.start(tmp_path, database, 4, sweep_dir=folder, **FEW) for folder in (doomed, heir))
    assert workers.kill_in_a_trial(first, doomed, database, finished=0), (tmp_path / "doomed.out").read_text()
    workers.finish(second, tmp_path)
    found = workers.account(database, [heir])
    assert found["wrong"] == []
    assert found["trials"] == list(range(4))
    assert found["states"] == {"COMPLETE": 2, "FAIL": 2}
    assert found["values tried"] == found["folders"] == 4
    statuses = {path.parent.name: json.loads(path.read_text())["status"] for path in doomed.glob("*/run.json")}
    twice = set(statuses) & set(found["cells in the tables"])
    assert all(statuses[name] == "running" for name in twice), "only the trial that was cut off was begun again"
    assert len((heir / "trials.csv").read_text().splitlines()) == 5
