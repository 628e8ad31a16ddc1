"""An error in the user's own code names file, line and run folder; a label beyond the outputs is said as that."""

import json
from pathlib import Path

import pytest
import torch

from runner.config.untrusted import user_code
from runner.config.untrusted.user_code import location_in_user_code
from runner.errors import ExitCode, RequestError
from runner.execution import attempt
from runner.execution.attempt import attempt_run, beyond_outputs
from runner.processes.command_end import run_command
from runner.tasks.losses import cross_entropy_in_parts

PARTS = Path(__file__).parent / "config" / "faulty_parts.py"
MODULE = "tests.config.faulty_parts"


def line_of(words):
    return next(number for number, line in enumerate(PARTS.read_text().splitlines(), start=1) if words in line)


@pytest.fixture
def tried(configure, tmp_path, monkeypatch):
    """tried(part="name", ...) -> how a run on parts of one's own ended."""
    monkeypatch.setenv("RECIPE_RUNNER_TARGETS", MODULE)

    def tried(**parts):
        keys = ["data=digits", "data.limit=60", "model=linear", "trainer.steps=2", "tracker=none", "hardware.threads=1"]
        config = configure(*keys)
        for group, name in parts.items():
            getattr(config, group).target = f"{MODULE}.{name}"
            getattr(config, group).options = {}
        folder = tmp_path / "run"
        folder.mkdir(exist_ok=True)
        return attempt_run(config, {}, folder, None), folder

    return tried


@pytest.mark.parametrize(
    ("parts", "words", "said"),
    [
        ({"model": "failing_net"}, "the network fails here", "ValueError: no such thing"),
        ({"model": "failing_factory"}, "the factory fails here", "KeyError: 'width'"),
        ({"data": "failing_source"}, "the source fails here", "ZeroDivisionError: by nothing"),
        ({"data": "exiting_source"}, "the source ends the program here", "SystemExit: 0"),
        ({"optimizer": "FailingOptimizer"}, "the optimizer fails here", "RuntimeError: cannot step"),
    ],
)
def test_an_error_in_a_part_of_ones_own_names_its_place(tried, parts, words, said, monkeypatch):
    ended, folder = tried(**parts)
    function = {"failing_net": "forward", "FailingOptimizer": "step"}.get(*parts.values(), *parts.values())
    place = f"{PARTS}, line {line_of(words)}, in {function}"
    assert ended.exit_code == ExitCode.FAILED
    assert ended.error == f"{said} ({place}); the traceback is in {folder / 'run.log'}"
    # without the look at the frames, nothing says where
    monkeypatch.setattr(attempt, "with_place", lambda text, error: text)
    ended, _ = tried(**parts)
    assert ended.error == said


def test_a_module_that_cannot_be_imported_names_its_line(tmp_path, monkeypatch, configure):
    (tmp_path / "broken_parts.py").write_text("x = 1\nraise LookupError('not today')\n")
    (tmp_path / "unparsable_parts.py").write_text("x = 1\ndef f(:\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("RECIPE_RUNNER_TARGETS", "broken_parts,unparsable_parts")
    config = configure("data=digits")
    for module, where in (("broken_parts", "line 2, in <module>"), ("unparsable_parts", "line 2")):
        config.model.target = f"{module}.net"
        ended = attempt_run(config, {}, tmp_path, None)
        assert ended.exit_code == ExitCode.WRONG_REQUEST
        assert f"{tmp_path / module}.py, {where})" in ended.error


def test_a_tracker_that_fails_names_its_line(tmp_path):
    from runner.records.sink import GuardedSink, RunInfo
    from tests.config.faulty_parts import FailingSink

    told = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECIPE_RUNNER_TARGETS", MODULE)
        sink = GuardedSink(FailingSink(None), "own", warn=told.append)
        sink.start(RunInfo(run_dir=tmp_path, name="x", config={}, group=None, run_id="1"))
        sink.finish({}, 0)
    assert f"OSError: no server ({PARTS}, line {line_of('the tracker fails here')}, in start)" in told[0]


def test_another_command_ends_in_one_line_too(monkeypatch, capsys):
    from tests.config.faulty_parts import failing_source

    monkeypatch.setenv("RECIPE_RUNNER_TARGETS", MODULE)
    assert run_command(lambda: failing_source(None)) == ExitCode.FAILED
    assert capsys.readouterr().err == (
        f"error: ZeroDivisionError: by nothing ({PARTS}, line {line_of('the source fails here')}, in failing_source)\n"
    )
    monkeypatch.delenv("RECIPE_RUNNER_TARGETS")
    with pytest.raises(ZeroDivisionError):  # a fault of the runner's own keeps its traceback
        run_command(lambda: failing_source(None))


def test_what_is_installed_is_nobodys_own_also_where_it_is_a_link(tmp_path, monkeypatch):
    kept, installed = tmp_path / "kept", tmp_path / "site-packages"
    kept.mkdir()
    installed.mkdir()
    (kept / "library.py").write_text("")
    (installed / "library").symlink_to(kept)
    monkeypatch.setenv("RECIPE_RUNNER_TARGETS", MODULE)
    monkeypatch.setattr(user_code, "_LIBRARIES", {installed})
    assert not user_code._is_own("library", str(installed / "library" / "library.py"))
    assert user_code._is_own("library", str(kept / "library.py"))
    assert not user_code._is_own("runner.execution.attempt", attempt.__file__)


def test_an_error_that_another_was_made_of_is_followed_back(monkeypatch):
    from tests.config.faulty_parts import failing_source

    monkeypatch.setenv("RECIPE_RUNNER_TARGETS", MODULE)
    try:
        try:
            failing_source(None)
        except ZeroDivisionError as error:
            raise RequestError("a", "b", "c") from error.with_traceback(error.__traceback__.tb_next)
    except RequestError as error:
        wrapped = error.with_traceback(None)
    assert location_in_user_code(wrapped) == f"{PARTS}, line {line_of('the source fails here')}, in failing_source"
    monkeypatch.setattr(user_code, "own_packages", lambda: ())
    assert location_in_user_code(wrapped) is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "few_outputs",
            "which gives 5 outputs where the data have labels from 0 to 9, expected a network with 10 outputs",
        ),
        ("two_answers", "which answers with a tuple, expected logits [b, K] alone"),
    ],
)
def test_a_network_without_an_output_for_each_class_is_refused(tried, name, said):
    ended, _ = tried(model=name)
    assert ended.exit_code == ExitCode.WRONG_REQUEST
    assert said in ended.error


def test_a_label_beyond_the_outputs_is_said_as_that_where_it_shows_in_training(tried):
    ended, _ = tried(model="hidden_outputs")
    assert ended.exit_code == ExitCode.FAILED
    assert ended.error.startswith("the label ")
    assert "is beyond the model's outputs: a model has one for each class (IndexError: Target" in ended.error


def test_what_each_device_says_of_such_a_label():
    with pytest.raises(IndexError) as cpu:
        torch.nn.functional.cross_entropy(torch.zeros(2, 3), torch.tensor([1, 7]))
    assert beyond_outputs(cpu.value) == "the label 7 is beyond the model's outputs: a model has one for each class"
    with pytest.raises(RuntimeError) as gathered:
        cross_entropy_in_parts(0.0)(torch.zeros(2, 3), torch.tensor([1, 7]))
    assert beyond_outputs(gathered.value) == beyond_outputs(cpu.value)
    with pytest.raises(RuntimeError) as elsewhere:
        torch.zeros(2, 3).gather(1, torch.tensor([[1], [7]]))
    assert beyond_outputs(elsewhere.value) is None
    cuda = RuntimeError("CUDA error: device-side assert triggered\nCUDA kernel errors might be ...")
    assert "most often a label beyond the model's outputs: hardware=cpu says which" in beyond_outputs(cuda)
    assert beyond_outputs(RuntimeError("something else")) is None


def test_the_line_stands_in_run_json_as_well(tried):
    ended, folder = tried(model="failing_net")
    attempt.record_failure(folder, ended)
    assert json.loads((folder / "run.json").read_text())["error"] == ended.error


def test_what_another_environment_has_installed_is_nobodys_own(tmp_path, monkeypatch):
    monkeypatch.setenv("RECIPE_RUNNER_TARGETS", MODULE)
    found = {}
    for name in ("site-packages", "mine"):
        file = tmp_path / name / "helper.py"
        file.parent.mkdir()
        file.write_text("def fail():\n    raise KeyError(1)\n")
        space = {"__name__": "helper"}
        exec(compile(file.read_text(), file, "exec"), space)
        with pytest.raises(KeyError) as failed:
            space["fail"]()
        found[name] = location_in_user_code(failed.value)
    assert found["site-packages"] != found["mine"] == f"{tmp_path}/mine/helper.py, line 2, in fail"
