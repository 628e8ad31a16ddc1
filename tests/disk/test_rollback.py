"""A refused command takes back what it has made, and nothing that was there before."""

import shutil

import pytest

from runner.disk import rollback
from runner.errors import ExitCode

REFUSED = ("tracker=none", "model=mlp", "data.limit=32", "hardware=cpu", "model.weights=weights.safetensors")
"""Found to be wrong after Hydra has made the folder: the file is there and is no file of weights."""


@pytest.fixture
def refuse(command, tmp_path):
    """refuse(folder) -> what is in the test's folder after a run in ``folder`` that was refused."""
    (tmp_path / "weights.safetensors").write_bytes(b"nothing")

    def refuse(folder):
        code, _, err = command(*REFUSED, f"hydra.run.dir={folder}")
        assert code == ExitCode.WRONG_REQUEST, err
        assert err.startswith("error: model.weights: got "), "the true cause"
        assert len(err.splitlines()) == 1
        return seen(tmp_path)

    return refuse


def seen(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if "cache" not in path.parts} - {
        "weights.safetensors"
    }


def test_folders_that_it_made_go_again(refuse):
    assert refuse("a/b/run") == set()
    assert refuse("outputs/${now:%H-%M-%S-%f}") == set()


def test_folders_that_were_there_stay(refuse, tmp_path):
    (tmp_path / "mine" / "run").mkdir(parents=True)
    assert refuse("mine/run") == {"mine", "mine/run"}
    assert refuse("mine/other") == {"mine", "mine/run"}


def test_what_was_in_them_stays(refuse, tmp_path):
    hydra = tmp_path / "mine" / ".hydra"
    hydra.mkdir(parents=True)
    (hydra / "config.yaml").write_text("own: 1")
    (tmp_path / "mine" / "run.log").write_text("said\n")
    before = seen(tmp_path)
    assert refuse("mine") == before
    assert (hydra / "config.yaml").read_text() == "own: 1"
    assert (tmp_path / "mine" / "run.log").read_text() == "said\n"


def test_without_the_memory_of_what_was_there_the_users_folder_goes(refuse, tmp_path, monkeypatch):
    (tmp_path / "mine" / "run").mkdir(parents=True)
    monkeypatch.setattr(rollback.FolderSnapshot, "restore", lambda self, run_dir: shutil.rmtree(run_dir))
    assert refuse("mine/run") == {"mine"}
