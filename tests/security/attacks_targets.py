"""Import paths in configurations that begin like a part of a run and are none."""

import contextlib
import hashlib
import importlib
from pkgutil import resolve_name

import pytest

from runner.config.rules import rules
from runner.config.schema import ModelConfig, SchedulerConfig
from runner.config.untrusted import targets
from runner.config.untrusted.targets import locate
from runner.models.build import build_network
from runner.optim.schedules import build_schedule
from runner.search.sampling import build_sampler
from runner.search.worker import _find_hook
from tests.security.stage import attack, guard

SHAPE = {"channels": 1, "num_classes": 2, "image_size": 8, "norm": "batch"}


@guard("targets")
def _any_callable(patch):
    def resolve(place, target, *, among=()):
        return resolve_name(target)

    users = (
        "runner.models.build",
        "runner.optim.schedules",
        "runner.search.worker",
        "runner.search.sampling",
        __name__,
    )
    for module in users:
        patch.setattr(importlib.import_module(module), "locate", resolve)
    patch.setattr(rules, "check_target", lambda place, target: None)
    patch.setattr(targets, "refuse_instructions", lambda place, value: None)


def _hub(stage):
    """A folder as torch.hub.load takes it."""
    stage.write("hub/hubconf.py", f"import os\nos.system({stage.payload!r})\ndef it(*_, **__):\n    pass\n")
    return {"source": "local", "model": "it", "args": [], "repo_or_dir": str(stage.folder / "hub")}


@attack("targets", says="model._target_")
def torch_hub_through_an_optimizer(stage):
    build_network(ModelConfig(target="torch.optim.optimizer.torch.hub.load", options=_hub(stage)), **SHAPE)


@attack("targets", says="model._target_")
def torch_hub_by_its_name(stage):
    build_network(ModelConfig(target="torch.hub.load", options=_hub(stage)), **SHAPE)


@attack("targets", says="model._target_")
def torch_hub_through_a_model_of_the_runner(stage):
    build_network(ModelConfig(target="runner.models.from_torchvision.torch.hub.load", options=_hub(stage)), **SHAPE)


@attack("targets", says="scheduler._target_")
def torch_hub_as_a_schedule(stage):
    config = SchedulerConfig(target="torch.optim.optimizer.torch.hub.load", options=_hub(stage))
    build_schedule(config, steps=2, steps_per_epoch=1)


@attack("targets", says="model._target_")
def hydra_itself_with_another_target_inside(stage):
    inside = {"_target_": "torch.hub.load", **_hub(stage)}
    options = {"args": [], "config": inside, "_execution_whitelist_": ["torch.hub.load"]}
    build_network(ModelConfig(target="runner.api.hydra_call.hydra.utils.instantiate", options=options), **SHAPE)


@attack("targets", says="which is subprocess.call")
def what_a_package_of_the_users_own_imports(stage):
    with _own_package(stage) as package:
        locate("model", f"{package}.call")(stage.payload, shell=True)


@attack("targets", says="underscore")
def a_private_function_of_a_package_of_the_users_own(stage):
    with _own_package(stage) as package:
        locate("model", f"{package}._clean_up")()


@attack("targets", says="neither a class nor a function")
def an_object_of_a_package_of_the_users_own(stage):
    with _own_package(stage) as package:
        locate("model", f"{package}.bound")()


@attack("targets", says="two underscores")
def the_program_of_a_package_of_the_users_own(stage):
    name = "program_" + hashlib.sha256(str(stage.folder).encode()).hexdigest()[:12]
    stage.write(f"{name}/__init__.py", "")
    stage.write(f"{name}/__main__.py", f"import os\nos.system({stage.payload!r})\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECIPE_RUNNER_TARGETS", name)
        patch.syspath_prepend(str(stage.folder))
        locate("model", f"{name}.__main__.it")


@attack("targets", says="which is none")
def a_function_that_makes_no_model(stage):
    with _own_package(stage) as package:
        locate("model", f"{package}.publish")()


@attack("targets", says="custom_search_space")
def a_shell_as_the_search_space(stage):
    _find_hook("os.system")(stage.payload)


@attack("targets", says="hydra/sweeper/sampler")
def torch_hub_as_a_sampler(stage):
    with _own_package(stage, trusted="nothing") as package:
        build_sampler(
            {"_target_": "runner.api.hydra_call.hydra.core.plugins.importlib.import_module", "name": package}, {}
        )


@contextlib.contextmanager
def _own_package(stage, *, trusted=None):
    """A module that the user trusts, with things in it that are no part of a run."""
    name = "own_" + hashlib.sha256(str(stage.folder).encode()).hexdigest()[:12]
    code = f"""
import functools
from os import system
from subprocess import call

def _clean_up():
    system({stage.payload!r})

def publish() -> int:
    return system({stage.payload!r})

bound = functools.partial(system, {stage.payload!r})
if {trusted is not None}:
    publish()
"""
    stage.write(f"{name}.py", code)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECIPE_RUNNER_TARGETS", trusted or name)
        patch.syspath_prepend(str(stage.folder))
        yield name
