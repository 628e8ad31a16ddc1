"""What is typed may read the environment; what reads the run's folder later does not, and finds what it stood for."""

import contextlib

import pytest
import yaml

from runner.commands.train import main
from runner.config.request.resume_request import expand_resume
from runner.config.untrusted.foreign_files import screen_lines
from runner.errors import RequestError
from runner.inference.finished_run import open_run

TINY = ("data=synthetic", "model=linear", "trainer.steps=1", "tracker=none", "hardware=cpu")
ODD = 'U"S$ ü'


def test_a_run_is_read_and_goes_on_without_the_environment_that_it_was_typed_in(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_NAME", ODD)
    monkeypatch.setenv("MY_RATE", "0.5")
    typed = ("name=${oc.env:MY_NAME}", "optimizer.lr=${oc.env:MY_RATE}", "+profile=false")
    with contextlib.chdir(tmp_path):
        assert main([*TINY, *typed, "hydra.run.dir=run"]) == 0
    for name in ("MY_NAME", "MY_RATE"):
        monkeypatch.delenv(name)
    found = open_run(tmp_path / "run").config
    assert (found.name, found.optimizer.lr) == (ODD, 0.5)
    kept = yaml.safe_load((tmp_path / "run/.hydra/overrides.yaml").read_text())
    assert kept[: len(TINY)] == list(TINY)
    assert kept[len(TINY) + 1 :] == ["optimizer.lr=0.5", "+profile=false"]
    expand_resume([f"resume={tmp_path / 'run'}"], multirun=False)
    with contextlib.chdir(tmp_path):
        assert main([f"resume={tmp_path / 'run'}"]) == 0


def test_what_refers_to_other_keys_alone_stays_as_it_was_typed(tmp_path):
    with contextlib.chdir(tmp_path):
        assert main([*TINY, "name=${data.name}", "hydra.run.dir=run"]) == 0
    assert "name: ${data.name}" in (tmp_path / "run/.hydra/config.yaml").read_text()


@pytest.mark.parametrize("line", ["name=a$b", "name='/data/US$/x'", "name=${data.name}"])
def test_a_dollar_sign_is_a_sign(line):
    screen_lines([line], file="x")


@pytest.mark.parametrize(
    "value",
    [
        "$\\{oc.env\\:HOME\\}",
        "'${oc.env:HOME}'",
        "[a,${oc.env:HOME}]",
        "{a: '${oc.env:HOME}'}",
        "str(${oc.env:HOME})",
        "$${data.name}${oc.env:HOME}",
        "$${data.name}x",
        "x$",
    ],
)
def test_escapes_of_hydras_grammar_hide_nothing(value):
    with pytest.raises(RequestError, match=r"^name|^config"):
        screen_lines([f"name={value}"], file="x")
