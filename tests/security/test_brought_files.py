"""What files of a folder may say is taken as ever, and a question that stands for a shipped one is told."""

import pytest
import yaml
from omegaconf import OmegaConf

from runner.config.compose import Composer
from runner.config.request.request import read_request
from runner.config.rules.rules import check
from runner.config.store import shipped
from runner.config.untrusted.foreign_files import screen_file, screen_lines
from runner.errors import RequestError
from tests.security.stage import Stage

RECIPE = {
    "defaults": [{"override /trainer": "dp"}, {"override /hydra/sweeper": "optuna"}, {"override /model": "mlp"}],
    "model": {"hidden": [8]},
    "optimizer": {"lr": 0.5, "weight_decay": "${optimizer.lr}"},
    "tracker": {"project": "mine", "mode": "offline", "tags": ["a"]},
    "data": {"root": None, "cache_dir": "decoded"},
    "hydra": {
        "mode": "MULTIRUN",
        "run": {"dir": "runs/${now:%Y-%m-%d}/${hydra.job.name}"},
        "sweep": {"dir": "runs/${hydra.runtime.choices.model}", "subdir": "${hydra.job.num}"},
        "job": {"name": "mine"},
        "launcher": {"n_jobs": 2},
        "sweeper": {
            "n_trials": 3,
            "storage": "studies/mine.journal",
            "sampler": {"seed": 0, "n_startup_trials": 2},
            "params": {"optimizer.lr": "tag(log, interval(0.01, 1.0))", "model": "linear,mlp"},
        },
    },
}


def screened(content, group="experiment", package="_global_"):
    screen_file(OmegaConf.create(content), file="mine.yaml", group=group, package=package)


def test_a_recipe_and_its_question_are_taken():
    screened(RECIPE)


@pytest.mark.parametrize("storage", ["mine.journal", "sqlite:///mine.db", "sqlite:///studies/mine.db", None, "memory"])
def test_a_study_below_the_working_folder_is_taken(storage):
    screened({"hydra": {"sweeper": {"storage": storage}}})


@pytest.mark.parametrize(
    "storage",
    [
        "sqlite:////tmp/mine.db",
        "sqlite:///../mine.db",
        "sqlite:///file:/tmp/mine.db?uri=true",
        "sqlite:///~/mine.db",
        "sqlite:///sqlite:////tmp/mine.db",
        "sqlite+pysqlcipher:///mine.db",
        "mysql://it@127.0.0.1/it",
    ],
)
def test_a_study_elsewhere_is_refused(storage):
    with pytest.raises(RequestError, match=r"hydra\.sweeper\.storage"):
        screened({"hydra": {"sweeper": {"storage": storage}}})


def test_options_are_taken():
    screened({"_target_": "my_parts.pooled", "name": "mine", "size": 4}, group="model", package=None)
    screened({"defaults": ["standard", "_self_"], "_target_": "mine.Careful"}, group="trainer", package=None)
    screened({"defaults": ["fork_server"], "n_jobs": 4}, group="hydra/launcher", package=None)
    moved = {"override /precision@_global_.precision": "bf16"}
    screened({"defaults": [moved, "_self_"], "device": "cpu"}, group="hardware", package=None)


@pytest.mark.parametrize("file", sorted(shipped("conf").rglob("*.yaml")), ids=lambda path: path.stem)
def test_what_is_shipped_would_be_taken_from_anybody(file):
    group = str(file.relative_to(shipped("conf")).parent)
    if group in (".", "hydra/help", "hydra/hydra_logging", "hydra/job_logging", "hydra/sweeper"):
        return  # the root and Hydra's own parts are the runner's alone
    package = "_global_" if "@package _global_" in file.read_text() else None
    content = yaml.safe_load(file.read_text())
    if group.startswith("hydra/"):
        content.pop("_target_", None)
    screen_file(OmegaConf.create(content), file=file.name, group=group, package=package)


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ({"hydra": {"verbose": True}}, "hydra.verbose"),
        ({"hydra": {"sweeper": {"_target_": "runner.sweeping.grid.GridSweeper"}}}, "hydra.sweeper._target_"),
        ({"hydra": {"launcher": {"_target_": "x"}}}, "hydra.launcher._target_"),
        ({"hydra": {"launcher": {"setup": ["rm -r ."]}}}, "hydra.launcher.setup"),
        ({"hydra": {"launcher": {"partition": "a\nrm -r ."}}}, "hydra.launcher.partition"),
        ({"hydra": {"launcher": {"mem_gb": "4\nrm -r ."}}}, "hydra.launcher.mem_gb"),
        ({"hydra": {"job": {"name": "a\nrm -r ."}}}, "hydra.job.name"),
        ({"hydra": {"job": {"env_copy": ["SECRET"]}}}, "hydra.job.env_copy"),
        ({"hydra": {"job": {"chdir": True}}}, "hydra.job.chdir"),
        ({"hydra": {"searchpath": ["pkg://far"]}}, "hydra.searchpath"),
        ({"hydra": {"run": {"dir": "../far"}}}, "hydra.run.dir"),
        ({"hydra": {"run": {"dir": "~/far"}}}, "hydra.run.dir"),
        ({"hydra": {"run": {"dir": "${data.root}/far"}}}, "hydra.run.dir"),
        ({"hydra": {"sweep": {"subdir": "../../far"}}}, "hydra.sweep.subdir"),
        ({"hydra": "${data}"}, "hydra"),
        ({"data": "${model}"}, "data"),
        ({"tracker": {"entity": "strangers"}}, "tracker.entity"),
        ({"tracker": {"mode": "${name}"}}, "tracker.mode"),
        ({"privacy": {"ledger_dir": "/tmp/fresh"}}, "privacy.ledger_dir"),
        ({"resume": "run"}, "resume"),
        ({"name": "${hydra:runtime.cwd}"}, "name"),
        ({"name": "$${oc.env:X}"}, "name"),
        ({"name": "${ oc.env:X}"}, "name"),
        ({"name": "${oc.create:{a: 1}}"}, "name"),
        ({"name": "${now:${oc.env:X}}"}, "name"),
        ({"name": "a$"}, "name"),
        ({"tracker": {"${oc.env:X}": 1}}, "tracker"),
        ({"hydra": {"sweeper": {"params": {"tracker": "{mode: online}"}}}}, "tracker.mode"),
        ({"hydra": {"sweeper": {"params": {"hydra/job_logging": "a,b"}}}}, "hydra/job_logging"),
        ({"hydra": {"sweeper": {"params": "${data}"}}}, "hydra.sweeper.params"),
        ({"hydra": {"sweeper": {"beside": "x"}}}, "hydra.sweeper.beside"),
        ({"hydra": {"sweeper": {"beside": [["~model"]]}}}, "model"),
        ({"hydra": {"sweeper": {"study_name": "${.storage}"}}}, "hydra.sweeper.study_name"),
        ({"defaults": [{"/hydra/env": "mine"}]}, "hydra/env"),
        ({"defaults": ["/hydra/callbacks/mine"]}, "hydra/callbacks"),
        ({"defaults": [{"override hydra/job_logging": "mine"}]}, "hydra/job_logging"),
        ({"defaults": [{"override /hydra/launcher": "basic"}]}, "hydra/launcher"),
        ({"defaults": ["../far/mine"]}, "defaults"),
        ({"defaults": [{"/model": "../../far"}]}, "defaults"),
        ({"defaults": [{"/model@hydra": "mine"}]}, "defaults"),
        ({"defaults": [{"/model@_global_.hydra.job": "mine"}]}, "defaults"),
        ({"defaults": [{"/${name}": "mine"}]}, "defaults"),
        ({"defaults": [{"/model": "${oc.env:X}"}]}, "defaults"),
    ],
)
def test_everything_else_is_refused_by_name(content, key):
    with pytest.raises(RequestError) as refusal:
        screened(content)
    assert refusal.value.key == key
    assert "mine.yaml" in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("package", ["hydra", "hydra.job.env_set", "_global_.hydra", "far"])
def test_a_file_goes_to_a_place_of_a_run(package):
    with pytest.raises(RequestError, match=r"^@package"):
        screened({"a": 1}, package=package)


def test_a_kept_command_line_goes_on():
    screen_lines(
        ["data=digits", "+model.drop_rate=0.1", "optimizer.lr=0.1", "sweep=mine", "name='two words'",
         "data.root=/far/photos", "data.cache_dir=/far/cache", "privacy.ledger_dir=/far/ledger", "tracker=wandb"],
        file="overrides.yaml",
    )  # fmt: skip


def asked(stage, name):
    request = read_request(Composer(caller=stage.folder), [f"sweep={name}"], multirun=False, check=check)
    return request.cells


def test_a_question_that_takes_a_shipped_name_is_told(tmp_path, capsys):
    stage = Stage(tmp_path)
    for name in ("precision", "mine"):
        stage.write(f"sweeps/{name}.yaml", "hydra: {mode: MULTIRUN, sweeper: {params: {seed: '1,2'}}}")
    assert asked(stage, "mine") == 2
    assert capsys.readouterr().err == ""
    assert asked(stage, "precision") == 2
    file = tmp_path / "sweeps/precision.yaml"
    told = f"note: sweep=precision is {file}, in place of the installed question of that name\n"
    assert capsys.readouterr().err == told
    assert asked(stage, "trainers") == 4
    assert capsys.readouterr().err == ""


def test_settings_of_wandb_that_the_user_made_are_taken(tmp_path, monkeypatch, configure):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org/")
    Stage(tmp_path).write(
        "wandb/settings", "[default]\nentity = me\nproject = mine\nbase_url = https://wandb.example.org\n"
    )
    configure("tracker.mode=online")
