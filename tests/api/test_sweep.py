import contextlib
import re

import pytest

from runner import RequestError, RunError, Sweep, sweep

TINY = ("model=linear", "tracker=none", "trainer.epochs=1", "hardware=cpu")


@pytest.fixture(autouse=True)
def folder(tmp_path):
    with contextlib.chdir(tmp_path):
        yield tmp_path


def test_a_sweep_comes_back_as_an_object(folder, capsys):
    grid = sweep("optimizer.lr=0.1,0.01", *TINY, seeds=2)
    out, _ = capsys.readouterr()
    assert re.fullmatch(rf"{folder}/outputs/multirun/[\d-]+/[\d-]+", str(grid.folder)), "that of the command line"
    assert [line.split("]")[0] for line in out.splitlines()[1:]] == [f"[{n}" for n in (0, 0, 1, 1, 2, 2, 3, 3)]
    table = grid.table()
    assert list(table.cell) == ["0", "1", "2", "3"]
    assert list(table["optimizer.lr"]) == [0.1, 0.01, 0.1, 0.01]
    assert list(table.seed) == [0, 0, 1, 1]
    assert [one.metrics["test_accuracy"] for one in grid.runs] == list(table.test_accuracy)
    assert table.epsilon.isna().all()
    assert "lr=0.1" in grid.verdict()
    page = grid.report()
    assert (grid.folder / "report.html").samefile(page)
    assert page._repr_html_().startswith("<iframe srcdoc=")
    for shown in (repr(grid), grid._repr_html_()):
        assert "4 completed" in shown
        assert str(grid.folder) in shown
    assert Sweep.open(grid.folder) == grid


def test_a_search_comes_back_as_an_object(folder):
    drawn = {"hydra/sweeper": "optuna", "hydra.sweeper.n_trials": 1, "hydra.sweep.dir": folder / "search"}
    search = sweep("optimizer.lr=interval(0.01,0.1)", *TINY, "data.limit=64", **drawn)
    (trial,) = search.runs
    assert list(search.table()["optimizer.lr"]) == [trial.config["optimizer"]["lr"]]
    assert search.verdict().startswith("Best of 1 completed trial of linear on digits: optimizer.lr=0.0")
    assert search.best is None, "all of its trials may be looked at"


def test_a_sweep_with_a_failure_says_where_the_others_are(folder, capsys):
    with pytest.raises(RunError, match=r"1 of 2 cells failed: cell 1 \(optimizer\.lr=1e\+30\)") as raised:
        sweep("optimizer.lr=0.1,1e30", *TINY)
    assert "error:" not in capsys.readouterr().err, "it is raised, and not printed as well"
    grid = Sweep.open(raised.value.folder)
    assert [one.status for one in grid.runs] == ["completed", "failed"]
    assert list(grid.table().status) == ["completed", "failed"]


def test_what_is_wrong_is_refused_before_a_folder_is_made(folder):
    with pytest.raises(RequestError, match=r"precision: got fp17, expected one of .*; did you mean fp16\?"):
        sweep("precision=fp32,fp17", *TINY)
    with pytest.raises(RequestError, match=r"folder: got .*, expected the folder of a sweep"):
        Sweep.open(folder)
    assert list(folder.iterdir()) == []


def test_drawn_trials_are_nobodys_to_see(folder):
    (folder / "selection.json").write_text("{}")
    grid = Sweep(folder)
    for look in (grid.table, grid.verdict, grid.report, lambda: grid.runs):
        with pytest.raises(RequestError, match=r"privacy\.selection=random_stopping"):
            look()
