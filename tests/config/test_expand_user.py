"""``~`` stands for the home in every path that is typed or written in a file."""

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser

from runner.config.words import expand_user as module
from runner.config.words.expand_user import expand_user, expand_user_in_lines


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:  # put back before the environment is looked at
        patch.setenv("HOME", str(tmp_path / "at home"))
        (tmp_path / "at home").mkdir()
        yield


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("data.root=~/p", ["{}/p"]),
        ("data.root=~", ["{}"]),
        ("data.root=~/my photos", ["{}/my photos"]),
        ("model.weights=~/a,~/b,null", ["{}/a", "{}/b", None]),
        ("data.files=[~/a,b]", [["{}/a", "b"]]),
        ("hydra.sweeper.storage=sqlite:///~/s.db", ["sqlite:///{}/s.db"]),
        ("model.weights=choice(~/a,b)", ["{}/a", "b"]),
        ("data.root=~nobody-of-that-name/p", ["~nobody-of-that-name/p"]),
        ("data.root=back~up", ["back~up"]),
        ("data.root='~/p'", ["~/p"]),
        ("seed=1", [1]),
    ],
)
def test_what_hydra_is_given(line, values, tmp_path):
    (given,) = expand_user_in_lines([line])
    override = OverridesParser.create().parse_override(given)
    if override.is_sweep_override():
        found = [value.text if hasattr(value, "text") else value for value in override.value().list]
    else:
        found = [override.value()]

    def expected(value):
        if isinstance(value, list):
            return [expected(one) for one in value]
        return value.format(tmp_path / "at home") if isinstance(value, str) else value

    plain = [[getattr(x, "text", x) for x in one] if isinstance(one, list) else one for one in found]
    assert plain == expected(values)


def test_deletions_and_bare_words_stay():
    lines = ["~data.root", "word", "~optimizer=~/x"]
    assert expand_user_in_lines(lines)[:2] == lines[:2]


def test_keys_of_a_run_in_quotes_or_files_are_at_home_too(configure, tmp_path):
    place = tmp_path / "at home"
    (place / "p").mkdir()
    safetensors.torch.save_file({"x": torch.zeros(1)}, place / "w.safetensors")
    config = configure(
        "trainer=dp", "data=image_folder", "data.root='~/p'", "model.weights='~/w.safetensors'", "data.cache_dir='~/c'",
        "privacy.ledger_dir='~/l'",
    )  # fmt: skip
    found = (config.data.root, config.model.weights, config.data.cache_dir, config.privacy.ledger_dir)
    assert [Path(path).parent for path in found] == [place] * 4


@pytest.mark.parametrize("typed", ["~/run", "'~/run'"])
def test_a_run_and_its_resume_are_at_home(command, tmp_path, typed):
    ask = ("model=linear", "tracker=none", "data.limit=50")
    assert command(*ask, "trainer.steps=1", f"hydra.run.dir={typed}")[0] == 0
    run = tmp_path / "at home/run"
    assert json.loads((run / "run.json").read_text())["status"] == "completed"
    assert not (tmp_path / "~").exists()
    code, _, told = command(f"resume={typed}")
    assert (code, "finished before" in told) == (0, True)


def test_further_configuration_is_at_home(command, tmp_path):
    folder = tmp_path / "at home/more/model"
    folder.mkdir(parents=True)
    (folder / "tiny.yaml").write_text("_target_: runner.models.dense.mlp\nname: tiny\n")
    code, told, _ = command("--config-dir=~/more", "model=tiny", "--cfg", "job", "--package=model")
    assert (code, "name: tiny" in told) == (0, True)


def test_without_it_a_folder_is_called_like_the_sign(monkeypatch):
    monkeypatch.setattr(module.os.path, "expanduser", lambda path: path)
    assert expand_user("~/run") == "~/run"


def test_a_home_that_nobody_knows_is_one_line(command):
    code, _, told = command("data=image_folder", "data.root=~nobody-of-that-name/p")
    assert (code, told.count("\n")) == (2, 1)
    assert "data.root: got ~nobody-of-that-name/p (does not exist)" in told
