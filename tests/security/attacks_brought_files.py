"""Questions, configuration folders and kept command lines that say more than which runs there are."""

import base64
import os
import pickle
from unittest import mock

import yaml
from hydra.utils import UNSAFE_DISABLE_EXECUTION_CHECKS

from runner.config import store
from runner.config.request import output_folders, resume_request
from runner.config.request.search_config import load_search
from runner.config.rules import rules
from runner.config.rules.tracker_rules import TRACKER_RELATIONS
from runner.config.untrusted import foreign_yaml, screened_source
from runner.search.study_storage import open_storage, place_of
from tests.security.stage import VARIABLE, attack, guard, listener

QUICK = ("data=synthetic", "model=linear", "tracker=none")
READS = "${oc.env:" + VARIABLE + "}"
TYPED = "it is typed on the command line"


@guard("brought")
def _anything_goes(patch):
    for module in (store, screened_source):
        patch.setattr(module, "screen_file", lambda *_, **__: None)
    patch.setattr(resume_request, "screen_lines", lambda *_, **__: None)
    patch.setattr(foreign_yaml, "_check", lambda *_: None)
    patch.setattr(store, "whitelist", lambda: UNSAFE_DISABLE_EXECUTION_CHECKS)
    # refused once more, for all that is typed as well
    patch.setattr(output_folders, "HYDRA_FOLDER", mock.ANY)


@guard("settings of a tracker")
def _any_server(patch):
    patch.setattr(rules, "RELATIONS", tuple(rule for rule in rules.RELATIONS if rule not in TRACKER_RELATIONS))


def question(stage, content):
    text = content if isinstance(content, str) else yaml.safe_dump(content)
    stage.write("sweeps/mine.yaml", f"# @package _global_\n{text}")


def run(stage, *typed):
    """One run by the question: what Hydra sets up for it is what it sets up for a cell."""
    stage.main("sweep=mine", *QUICK, "hydra.run.dir=run", *typed)


def ask(stage, *typed):
    return stage.ask("sweep=mine", *QUICK, *typed)


def option(stage, name, content, header="# its header"):
    stage.write(f"mine/{name}.yaml", f"{header}\n{yaml.safe_dump(content)}")


def take(stage, *typed):
    stage.main("--config-dir", str(stage.folder / "mine"), *QUICK, "hydra.run.dir=run", *typed)


def go_on(stage, *lines):
    """The folder of a run as it was interrupted before its first step."""
    stage.write("run/.hydra/overrides.yaml", yaml.safe_dump([*QUICK, *lines]))
    stage.main("resume=run")


def grid(**params):
    return {"hydra": {"mode": "MULTIRUN", "sweeper": {"params": params}}}


def shell(stage):
    return {"_target_": "subprocess.getoutput", "_args_": [stage.payload]}


def log_file(stage):
    """Settings by which a log is written where the victim's shell would read it."""
    return {"handlers": {"file": {"class": "logging.FileHandler", "filename": str(stage.marker)}}}


def other_git(stage):
    """A folder for PATH, with a program that every run asks for the version of the code."""
    stage.write("bin/git", f"#!/bin/sh\n{stage.payload}\n").chmod(0o755)
    return f"{stage.folder / 'bin'}:{os.environ['PATH']}"


class Pickle:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


# Questions of the working folder


@attack("brought", says="tag !!binary")
def a_pickle_in_a_callback_of_a_question(stage):
    data = base64.b64encode(pickle.dumps(Pickle(stage.payload))).decode()
    question(stage, f"hydra: {{callbacks: {{it: {{_target_: pickle.loads, _args_: [!!binary {data}]}}}}}}")
    run(stage)


@attack("brought", says="hydra.callbacks")
def a_shell_in_a_callback_of_a_question(stage):
    question(stage, {"hydra": {"callbacks": {"it": shell(stage)}}})
    run(stage)


@attack("brought", says="hydra.job_logging")
def a_log_of_a_question_elsewhere(stage):
    question(stage, {"hydra": {"job_logging": log_file(stage)}})
    run(stage)


@attack("brought", says="hydra.hydra_logging")
def the_log_of_hydra_elsewhere(stage):
    root = {"root": {"handlers": ["file"]}}
    question(stage, {"hydra": {"hydra_logging": log_file(stage) | root}})
    run(stage)


@attack("brought", says="hydra.job.env_set.PATH")
def another_git_by_a_question(stage):
    question(stage, {"hydra": {"job": {"env_set": {"PATH": other_git(stage)}}}})
    run(stage)


@attack("brought", says="hydra.output_subdir")
def the_files_of_hydra_elsewhere(stage):
    question(stage, {"hydra": {"output_subdir": str(stage.marker)}})
    run(stage)


@attack("brought", says="hydra.run.dir")
def a_run_outside_of_the_working_folder(stage):
    question(stage, {"hydra": {"run": {"dir": str(stage.marker)}}})
    stage.main("sweep=mine", *QUICK)


@attack("brought", says="what reads the environment is typed")
def the_environment_as_the_name_of_a_run(stage):
    question(stage, {"name": READS})
    run(stage)


@attack("brought", says="what reads the environment is typed")
def the_environment_by_decoding(stage):
    question(stage, {"tracker": {"tags": ["${oc.decode:'" + READS + "'}"]}})
    run(stage)


@attack("brought", says="what reads the environment is typed")
def the_environment_among_the_values(stage):
    question(stage, grid(name=f"'{READS}',b"))
    ask(stage)


@attack("brought", says="what reads the environment is typed")
def the_environment_beside_the_grid(stage):
    question(
        stage, {"hydra": {"mode": "MULTIRUN", "sweeper": {"params": {"seed": "0"}, "beside": [[f"name={READS}"]]}}}
    )
    ask(stage)


@attack("brought", says="tracker.mode")
def a_question_that_sends(stage):
    question(stage, grid(**{"tracker.mode": "online"}))
    ask(stage, "tracker=wandb")


@attack("brought", says="tracker.mode")
def a_question_that_sends_by_reference(stage):
    question(stage, {"optimizer": {"foreach": "online"}, "tracker": {"mode": "${optimizer.foreach}"}})
    run(stage, "tracker=wandb")


SEARCH = """
defaults: [override /hydra/sweeper: optuna]
hydra:
  mode: MULTIRUN
  sweeper: {{n_trials: 1, params: {{seed: '0,1'}}, storage: '{storage}'}}
"""


def search(stage, storage):
    question(stage, SEARCH.format(storage=storage))
    asked = ask(stage)
    open_storage(place_of(load_search(asked.hydra.sweeper).storage, stage.folder))


@attack("brought", says="hydra.sweeper.storage")
def a_study_that_is_added_to_a_file_elsewhere(stage):
    search(stage, stage.marker)


@attack("brought", says="hydra.sweeper.storage")
def a_study_on_a_server_of_the_strangers(stage):
    with listener(stage) as port:
        search(stage, f"postgresql+psycopg://it@127.0.0.1:{port}/it")


# A folder of configurations


@attack("brought", says="hydra/callbacks")
def a_callback_by_the_defaults_of_an_experiment(stage):
    option(stage, "hydra/callbacks/it", {"it": shell(stage)})
    option(stage, "experiment/mine", {"defaults": [{"override /hydra/callbacks": "it"}]}, "# @package _global_")
    take(stage, "experiment=mine")


@attack("brought", says="@package")
def a_callback_by_the_package_of_an_experiment(stage):
    option(stage, "experiment/mine", {"it": shell(stage)}, "# @package hydra.callbacks")
    take(stage, "experiment=mine")


@attack("brought", says="defaults")
def a_callback_by_the_place_of_an_option(stage):
    option(stage, "model/it", {"it": shell(stage)})
    defaults = [{"/model@hydra.callbacks": "it"}]
    option(stage, "experiment/mine", {"defaults": defaults}, "# @package _global_")
    take(stage, "experiment=mine")


@attack("brought", says="hydra.job_logging")
def a_log_elsewhere_by_an_option_of_hydras(stage):
    option(stage, "hydra/job_logging/it", {"version": 1, "root": {"handlers": ["file"]}} | log_file(stage))
    take(stage, "hydra/job_logging=it")


@attack("brought", says="hydra.job.env_set.PATH")
def another_git_by_an_experiment(stage):
    hydra = {"job": {"env_set": {"PATH": other_git(stage)}}}
    option(stage, "experiment/mine", {"hydra": hydra}, "# @package _global_")
    take(stage, "experiment=mine")


@attack("brought", says="data.cache_dir")
def private_images_in_a_folder_of_the_strangers(stage):
    option(stage, "experiment/mine", {"data": {"cache_dir": str(stage.marker)}}, "# @package _global_")
    take(stage, "experiment=mine")


@attack("brought", says="tracker.mode")
def an_option_that_sends(stage):
    option(stage, "tracker/mine", {"_target_": "runner.records.wandb_sink.WandbSink", "mode": "online"})
    take(stage, "tracker=mine")


# The command line that a run's folder keeps


@attack("brought", says="hydra.job.env_set.PATH")
def another_git_by_a_kept_line(stage):
    go_on(stage, f"+hydra.job.env_set.PATH='{other_git(stage)}'")


@attack("brought", says="hydra.callbacks")
def a_callback_by_a_kept_line(stage):
    go_on(stage, f"+hydra.callbacks.it={{_target_: subprocess.getoutput, _args_: ['{stage.payload}']}}")


@attack("brought", says="what reads the environment is typed")
def the_environment_by_a_kept_line(stage):
    go_on(stage, f"name='{READS}'")


@attack("brought", says="tracker.mode")
def a_kept_line_that_sends(stage):
    go_on(stage, "tracker=wandb", "tracker.mode=online")


# What a tracker reads by itself


@attack("settings of a tracker", says="tracker.mode")
def another_server_for_the_key_of_the_user(stage):
    stage.write("wandb/settings", "[default]\nbase_url = http://127.0.0.1:9\n")
    stage.main(*QUICK, "tracker=wandb", "tracker.mode=online", "hydra.run.dir=run")


@attack("settings of a tracker", says="tracker.mode")
def another_server_in_a_hidden_folder(stage):
    stage.write(".wandb/settings", "[default]\nentity = me\nhttps_proxy = http://127.0.0.1:9\n")
    stage.main(*QUICK, "tracker=wandb", "tracker.mode=online", "hydra.run.dir=run")
