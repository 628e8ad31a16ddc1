"""A run that is taken up again elsewhere keeps both environments, and says so."""

import sys

from runner.records.environment_changes import environments_before
from runner.records.own_code import own_code
from runner.records.run_file import RunRecord, write_run

OLD = {"python": "3.10.1", "cpu": "one", "packages": {"torch": "2.14.0", "numpy": "2.0"}}
NEW = {"python": "3.10.1", "cpu": "two", "packages": {"torch": "2.15.0", "numpy": "2.0"}}


def begun(folder, environment, earlier=()):
    write_run(folder, RunRecord(name="r", status="interrupted", environment=environment, earlier_environments=earlier))
    return folder


def test_another_environment_is_told_and_the_first_is_kept(tmp_path):
    kept, (note,) = environments_before(begun(tmp_path, OLD), NEW)
    assert kept == (OLD,)
    assert note == "taken up again in another environment: cpu one -> two, torch 2.14.0 -> 2.15.0"


def test_the_way_back_is_told_too_and_nothing_is_kept_twice(tmp_path):
    kept, (note,) = environments_before(begun(tmp_path, NEW, earlier=(OLD,)), OLD)
    assert kept == (NEW,)
    assert note.endswith("cpu two -> one, torch 2.15.0 -> 2.14.0")


def test_the_same_environment_is_nothing_to_tell(tmp_path):
    assert environments_before(begun(tmp_path, OLD), {**OLD, "git": None}) == ((), ())
    assert environments_before(tmp_path / "not begun", OLD) == ((), ())


def test_own_code_that_has_changed_is_told(tmp_path, monkeypatch):
    # another default of a constructor, say: the plan knows a model by its name and the options that were given
    file = tmp_path / "own_nets.py"
    file.write_text("def net(drop=0.1): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("RECIPE_RUNNER_TARGETS", "other,own_nets.net")
    __import__("own_nets")
    targets = ["own_nets.net", "runner.models.dense.linear", "other.never.imported"]
    before = own_code(targets)
    assert list(before) == ["own_nets"]
    run_dir = begun(tmp_path, {"code": before})
    assert environments_before(run_dir, {"code": before})[1] == ()
    file.write_text("def net(drop=0.5): ...\n")
    _, (note,) = environments_before(run_dir, {"code": own_code(targets)})
    assert note.startswith("taken up again in another environment: code of own_nets own_nets.py ")
    assert environments_before(begun(tmp_path, {"python": "3"}), {"python": "3", "code": before}) == ((), ())
    del sys.modules["own_nets"]
