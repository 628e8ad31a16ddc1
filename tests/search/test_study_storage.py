"""Where a study is kept: what cannot be used is refused in a line, and a journal survives a killed writer."""

import optuna
import pytest

from runner.errors import RequestError
from runner.search.study_storage import forgotten, open_storage, place_of


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("postgresql://127.0.0.1:1/nothing", "refused"),
        ("sqlite:////nowhere/at/all.db", "unable to open database file"),
        ("nosuch://host/db", "nosuch"),
        ("postgres//x://", "cannot be read as a URL"),
        ("/nowhere/at/all.journal", "No such file or directory"),
    ],
)
def test_what_cannot_be_reached_is_refused(place, reason):
    with pytest.raises(RequestError, match=reason) as refused:
        open_storage(place)
    assert refused.value.key == "hydra.sweeper.storage"
    assert "\n" not in str(refused.value)


def test_a_file_that_is_no_journal_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("dear diary\nto-day\n")
    with pytest.raises(RequestError, match="it is not a journal"):
        open_storage(str(tmp_path / "notes.txt"))


def test_a_password_is_not_repeated():
    with pytest.raises(RequestError) as refused:
        open_storage("postgresql://me:secret@127.0.0.1:1/nothing")
    assert "secret" not in str(refused.value)


def test_a_journal_goes_on_after_a_line_that_was_left_half_written(tmp_path):
    path = tmp_path / "search.journal"
    study = optuna.create_study(storage=open_storage(str(path)).backend, study_name="s")
    study.tell(study.ask(), 1.0)
    with path.open("ab") as file:
        file.write(b'{"op_code":4,"worker_id":"kil')
    again = optuna.load_study(study_name="s", storage=open_storage(str(path)).backend)
    again.tell(again.ask(), 2.0)
    study.tell(study.ask(), 3.0)  # whoever had it open goes on as well
    last = optuna.load_study(study_name="s", storage=open_storage(str(path)).backend)
    assert [trial.value for trial in last.trials] == [1.0, 2.0, 3.0]


def test_anybody_can_open_the_journal(tmp_path):
    """As a dashboard does: with Optuna's own classes, and nothing of ours."""
    from optuna.storages.journal import JournalFileBackend

    path = tmp_path / "search.journal"
    study = optuna.create_study(storage=open_storage(str(path)).backend, study_name="s")
    study.tell(study.ask(), 1.0)
    plain = optuna.load_study(study_name="s", storage=optuna.storages.JournalStorage(JournalFileBackend(str(path))))
    assert plain.best_value == 1.0


def test_memory_lasts_as_long_as_its_search_and_is_not_shared(tmp_path):
    place = place_of("memory", tmp_path)
    with forgotten(tmp_path):
        optuna.create_study(storage=open_storage(place).backend, study_name="s")
        with pytest.raises(RequestError, match="memory is not shared"), forgotten(tmp_path):
            pass
        assert optuna.get_all_study_names(open_storage(place).backend) == ["s"]
    assert list(tmp_path.iterdir()) == []
