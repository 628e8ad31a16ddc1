"""Going on with a run: what its command line leaned on is found or asked for, and an interrupted one says how."""

import contextlib
import shlex

import pytest
import yaml

from runner.api import start_run
from runner.commands import train as cli
from runner.config.compose import Composer
from runner.config.request import hydra_record, resume_request
from runner.config.request.request import check_run
from runner.config.request.resume_request import expand_resume
from runner.config.request.search_path import searched
from runner.errors import ExitCode, RequestError
from runner.execution.attempt import Attempt

ODD = "my $HOME 'run' {a,b}"


@pytest.fixture
def begun(tmp_path):
    """begun(...) -> the folder of a run that was begun in ``there``, as Hydra leaves it."""

    def begun(*lines, name="run", sources=(), values=None, question=None, root="config"):
        folder = tmp_path / "there" / name / ".hydra"
        folder.mkdir(parents=True)
        runtime = {
            "cwd": str(tmp_path / "there"),
            "config_sources": [{"path": path, "schema": "file", "provider": provider} for provider, path in sources],
            "choices": {"sweep": question},
        }
        hydra = {"hydra": {"runtime": runtime, "job": {"config_name": root}}}
        for file, content in (("hydra", hydra), ("config", values or {}), ("overrides", list(lines))):
            (folder / f"{file}.yaml").write_text(yaml.safe_dump(content))
        return folder.parent

    (tmp_path / "here").mkdir()
    with contextlib.chdir(tmp_path / "here"):
        yield begun


def asked_for(folder, **options):
    """The command that the refusal to go on in ``folder`` names, as a shell would cut it."""
    with pytest.raises(RequestError) as refused:
        expand_resume([f"resume={folder}"], multirun=False, **options)
    assert refused.value.key == "resume"
    return str(refused.value), shlex.split(refused.value.expected)


def test_a_folder_of_options_is_asked_for_and_the_command_is_the_whole(begun, tmp_path):
    parts = tmp_path / "my parts"
    folder = begun("experiment=mine", sources=[("main", "/conf"), ("command-line", str(parts))], name=ODD)
    line, words = asked_for(folder)
    assert f"which was begun with --config-dir {parts}" in line
    assert words[-3:] == ["--config-dir", str(parts), f"resume={folder}"]
    lines = expand_resume([words[-1]], multirun=False, config_dir=parts)
    assert lines[0] == "experiment=mine"
    # from where they are by now
    assert expand_resume([words[-1]], multirun=False, config_dir=tmp_path) == lines


def test_the_root_and_the_search_path_are_asked_for(begun, tmp_path):
    folder = begun(sources=[("command-line", "/parts")], root="mine", name="a")
    assert asked_for(folder, config_dir=tmp_path)[1][-3:] == ["--config-name", "mine", f"resume={folder}"]
    folder = begun(sources=[("hydra.searchpath in command-line", "/my parts")], name="b")
    words = asked_for(folder)[1]
    assert searched(words) == ["file:///my parts"]
    assert expand_resume(words[-2:], multirun=False)


def test_a_cell_of_a_question_of_its_folder_goes_on_there(begun, tmp_path):
    folder = begun("sweep=mine", "seed=1", question="mine")
    line, _ = asked_for(folder)
    assert f"a cell of sweep=mine in {tmp_path}/here, which has no sweeps/mine.yaml" in line
    assert f"expected the same in {tmp_path}/there, where it was begun, or a copy of sweeps/mine.yaml" in line
    with contextlib.chdir(tmp_path / "there"):
        assert expand_resume(["resume=run"], multirun=False)[:2] == ["sweep=mine", "seed=1"]
    (tmp_path / "here" / "sweeps").mkdir()
    (tmp_path / "here" / "sweeps" / "mine.yaml").write_text("# @package _global_\nseed: 1\n")
    assert expand_resume([f"resume={folder}"], multirun=False)


def test_paths_count_from_the_folder_that_the_run_was_begun_in(begun, tmp_path):
    values = {
        "data": {"root": "photos", "cache_dir": "cache"},
        "model": {"weights": "DEFAULT"},
        "privacy": {"ledger_dir": "/ledger"},
    }
    folder = begun("data.root=photos", "seed=3", values=values)
    (tmp_path / "there" / "photos").mkdir()
    lines = expand_resume([f"resume={folder}"], multirun=False)
    there = tmp_path / "there"
    assert lines[:3] == ["seed=3", f'data.root="{there}/photos"', f'data.cache_dir="{there}/cache"']
    assert not any(line.startswith(("model", "privacy", "data.root=photos")) for line in lines)
    # what is typed counts from here, and in the same folder nothing changes
    assert "data.root=other" in expand_resume([f"resume={folder}", "data.root=other"], multirun=False)
    with contextlib.chdir(there):
        assert expand_resume(["resume=run"], multirun=False)[:2] == ["data.root=photos", "seed=3"]


def test_without_that_the_paths_lead_elsewhere(begun, tmp_path, monkeypatch):
    folder = begun("data.root=photos", values={"data": {"root": "photos"}})
    (tmp_path / "there" / "photos").mkdir()
    monkeypatch.setattr(resume_request, "paths_from_there", lambda begun, replaced: [])
    lines = expand_resume([f"resume={folder}"], multirun=False)
    composer = Composer(caller=tmp_path)
    config = composer.load(composer.compose(["data=image_folder", *lines]))
    with pytest.raises(RequestError, match="does not exist"):
        check_run(config)


def test_a_record_that_came_with_the_folder_reads_no_environment(begun, monkeypatch):
    folder = begun(values={"data": {"cache_dir": "${oc.env:SECRET}"}})
    with pytest.raises(RequestError, match="what reads the environment is typed"):
        expand_resume([f"resume={folder}"], multirun=False)


def test_a_record_cannot_write_on_the_terminal(begun):
    folder = begun(sources=[("command-line", "/parts\x1b[2J")])
    with pytest.raises(RequestError) as refused:
        expand_resume([f"resume={folder}"], multirun=False)
    assert str(refused.value).isprintable()
    assert "names that can be shown" in str(refused.value)


@pytest.mark.parametrize("name", ["my run", ODD, "日本", "a=b,c", "[1]", "'quoted'", "~x", "#1"])
def test_any_folder_can_be_pasted(begun, name):
    folder = begun("seed=1", name=name)
    (word,) = shlex.split(hydra_record.resume_line(folder))
    lines = expand_resume([word], multirun=False)
    composer = Composer(caller=folder.parent)
    config = composer.compose([line.replace("$", "\\$") for line in lines])
    assert config.hydra.run.dir.replace("\\$", "$") == str(folder)


@pytest.mark.parametrize("launched", [False, True])
def test_an_interrupted_run_says_how_it_goes_on(tmp_path, monkeypatch, capsys, launched):
    (tmp_path / "my parts" / "experiment").mkdir(parents=True)
    (tmp_path / "my parts" / "experiment" / "mine.yaml").write_text("# @package _global_\nseed: 4\n")
    monkeypatch.setattr(cli, "_run", lambda *rest: ExitCode.INTERRUPTED)
    monkeypatch.setattr(cli, "_sweep", lambda *rest: ExitCode.INTERRUPTED)
    monkeypatch.setenv("RECIPE_RUNNER_TARGETS", "my_parts")
    if launched:
        monkeypatch.setenv("RECIPE_RUNNER_TARGETS", "")
    with contextlib.chdir(tmp_path):
        assert cli._main(["--config-dir", "my parts", "experiment=mine", "hydra.run.dir='my run'"]) == 75
        err = capsys.readouterr().err
        words = shlex.split(err.removeprefix("goes on with: "))
        assert words[0] == "RECIPE_RUNNER_TARGETS=my_parts" or launched
        assert words[-3:] == ["--config-dir", str(tmp_path / "my parts"), f"resume={tmp_path}/my run"]
        assert cli._main(["-m", "--config-dir", "my parts", "experiment=mine", "seed=1,2", "name='a b'"]) == 75
        words = shlex.split(capsys.readouterr().err.removeprefix("goes on with: "))
        assert words[-7:-1] == ["--multirun", "--config-dir", f"{tmp_path}/my parts", "experiment=mine", "seed=1,2",
                                "name='a b'"]  # fmt: skip
        assert words[-1].startswith(f"hydra.sweep.dir={tmp_path}/outputs/multirun/")
        # the command that is named is answered in the same way
        at = words.index("--multirun")
        assert cli._main(words[at:]) == 75
        assert shlex.split(capsys.readouterr().err)[-1] == words[-1]


def test_a_run_in_the_usual_folder_is_named_by_the_folder_that_it_has(tmp_path, monkeypatch, capsys):
    """The name has the microsecond in it, and Hydra composes after the request was read."""
    monkeypatch.setattr(start_run, "attempt_run", lambda *rest, **named: Attempt(exit_code=ExitCode.INTERRUPTED))
    with contextlib.chdir(tmp_path):
        assert cli._main(["tracker=none"]) == ExitCode.INTERRUPTED
        (folder,) = (tmp_path / "outputs").glob("*/*")
        word = shlex.split(capsys.readouterr().err)[-1]
        assert word == f"resume={folder}"
        assert "tracker=none" in expand_resume([word], multirun=False)


def test_a_search_path_of_hydra_is_one_of_ours(tmp_path):
    for folder, file, text in (
        ("experiment", "mine", "# @package _global_\nseed: 4\n"),
        ("sweep", "asked", "# @package _global_\nhydra:\n  sweeper:\n    params:\n      seed: 1,2\n"),
        ("experiment", "sly", "# @package _global_\nhydra:\n  searchpath: [/]\n"),
        (".", "root", "defaults:\n  - config\n  - _self_\nseed: 9\n"),
    ):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / f"{file}.yaml").write_text(text)
    for typed in (f"hydra.searchpath=[file://{tmp_path}]", f"hydra.searchpath=['{tmp_path}']"):
        composer = Composer(caller=tmp_path, search=searched([typed]))
        assert composer.compose([typed, "experiment=mine"]).seed == 4
        assert "asked" in composer.options("sweep")
        with pytest.raises(RequestError, match=r"hydra.searchpath: .*sly.yaml, expected nothing in a file"):
            composer.compose([typed, "experiment=sly"])
    assert Composer(caller=tmp_path, extra=tmp_path, root="root").compose([]).seed == 9
    with pytest.raises(RequestError, match="experiment: got mine"):
        Composer(caller=tmp_path).compose(["experiment=mine"])
    with pytest.raises(RequestError, match=r"hydra.searchpath: got /nowhere, expected folders that exist"):
        Composer(caller=tmp_path, search=["/nowhere"]).compose([])
    with pytest.raises(RequestError, match=r"hydra.searchpath: got /x, expected a list"):
        searched(["hydra.searchpath=/x"])


def test_a_run_stays_where_it_is_called(composer):
    with pytest.raises(RequestError, match=r"hydra.job.chdir: got true, expected false: a run stays"):
        composer.load(composer.compose(["hydra.job.chdir=true"]))


def test_a_console_script_sees_packages_of_the_working_folder(tmp_path, monkeypatch):
    import sys

    from runner.config.untrusted.targets import locate

    (tmp_path / "words_parts.py").write_text(
        "from torch import nn\ndef f(*, in_channels, num_classes, image_size) -> nn.Module:\n    return nn.Identity()\n"
    )
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    with contextlib.chdir(tmp_path):
        with pytest.raises(RequestError, match="RECIPE_RUNNER_TARGETS=words_parts in the environment"):
            locate("model", "words_parts.f")
        assert str(tmp_path) not in sys.path
        monkeypatch.setenv("RECIPE_RUNNER_TARGETS", "words_parts")
        assert locate("model", "words_parts.f").__module__ == "words_parts"
    assert sys.path[-1] == str(tmp_path)
    sys.modules.pop("words_parts")
