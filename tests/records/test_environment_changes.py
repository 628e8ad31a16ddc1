"""A run that is taken up again elsewhere keeps both environments, and says so."""

from runner.records.environment_changes import environments_before
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
