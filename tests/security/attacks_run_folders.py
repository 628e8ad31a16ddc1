"""Run folders, studies and data sets of which the files were edited: what they name would be imported or unpickled."""

import functools
import hashlib
import importlib
import json
import os
import pickle
import tempfile
from pathlib import Path
from pkgutil import resolve_name

import optuna
import pytest
import torch
import yaml
from hydra.utils import UNSAFE_DISABLE_EXECUTION_CHECKS, instantiate
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from runner.config.identity import identity_of
from runner.config.rules import rules
from runner.config.untrusted import run_config
from runner.data.open import open_data
from runner.inference.finished_run import open_run
from runner.models import from_timm
from runner.search import cma_es, sampling
from runner.training.checkpointing.checkpoint import seal
from runner.verify import one_update
from tests.security.stage import VARIABLE, attack, guard, listener

READS = "${oc.env:" + VARIABLE + "}"


@guard("run folders")
def _any_callable(patch):
    patch.setattr(importlib.import_module("runner.models.build"), "locate", lambda _, target: resolve_name(target))
    patch.setattr(rules, "check_target", lambda *_: None)
    patch.setattr(rules, "refuse_instructions", lambda *_: None)
    patch.setattr(run_config, "screen_texts", lambda *_: None)


@guard("checkpoints")
def _any_pickle_in_a_checkpoint(patch):
    load = torch.load
    patch.setattr(torch, "load", lambda file, **options: load(file, **options | {"weights_only": False}))


@guard("studies")
def _any_pickle_in_a_study(patch):
    patch.setattr(cma_es, "_Reader", pickle.Unpickler)


@guard("samplers")
def _built_by_hydra(patch):
    def build(part, factory, options):
        return instantiate(dict(options), _execution_whitelist_=UNSAFE_DISABLE_EXECUTION_CHECKS)

    patch.setattr(sampling, "_build", build)
    patch.setattr(sampling, "locate", lambda place, target: None)


@guard("weights")
def _any_argument_of_timm(patch):
    patch.setattr(from_timm, "_refuse_sources_of_weights", lambda *_: None)


class Pickle:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@functools.cache
def trained():
    """Name -> content of the files of a run of one step."""
    from runner.config.compose import Composer
    from runner.execution.job import run_job

    typed = ["data=digits", "data.limit=64", "model=linear", "trainer.steps=1", "tracker=none", "hardware=cpu"]
    with tempfile.TemporaryDirectory() as temporary:
        run_dir, composer = Path(temporary, "run"), Composer(caller=Path(temporary))
        composed = composer.compose([*typed, f"hydra.run.dir={run_dir}"])
        run_dir.mkdir()
        assert run_job(composer.load(composed), {}, run_dir, None).exit_code == 0
        files = {str(path.relative_to(run_dir)): path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    plain = {str(key): composed[key] for key in composed if key != "hydra"}
    from omegaconf import OmegaConf

    return files | {".hydra/config.yaml": OmegaConf.to_yaml(OmegaConf.create(plain)).encode()}


def folder(stage, *, model=None, edit=None):
    """The run with another model, and everything that has to agree with it; ``edit`` changes its configuration."""
    for name, content in trained().items():
        if not name.startswith("checkpoints/best/"):
            stage.write(f"run/{name}", content)
    run = stage.folder / "run"
    config = yaml.safe_load((run / ".hydra/config.yaml").read_text())
    if model is not None:
        config["model"] = config["model"] | model
        config["model"].pop("bias", None)
    if edit is not None:
        edit(config)
    (run / ".hydra/config.yaml").write_text(yaml.safe_dump(config))
    record = json.loads((run / "run.json").read_text())
    if model is not None:
        named = {key: config["model"][key] for key in ("name", "weights", "gradient_checkpointing", "norm")}
        options = {key: value for key, value in config["model"].items() if key not in named and key != "_target_"}
        record["plan"]["semantic"]["model"] = named | {"target": config["model"]["_target_"], "options": options}
        record["plan"]["identity"] = identity_of(record["plan"]["semantic"])
        (run / "run.json").write_text(json.dumps(record))
    for path in run.glob("checkpoints/step_*/manifest.json"):
        manifest = json.loads(path.read_text()) | {"identity": record["plan"]["identity"]}
        manifest.pop("digest")
        path.write_bytes(seal(manifest))
        (run / "checkpoints/best").symlink_to(path.parent.name)
    return run


def hub(stage):
    """A model that stands for a folder of code, as torch.hub.load takes it."""
    stage.write("hub/hubconf.py", f"import os\nos.system({stage.payload!r})\ndef it(*_, **__):\n    pass\n")
    given = {"source": "local", "model": "it", "args": [], "repo_or_dir": str(stage.folder / "hub")}
    return {"_target_": "torch.optim.optimizer.torch.hub.load"} | given


@attack("run folders", says="model._target_")
def a_model_of_another_kind(stage):
    open_run(folder(stage, model=hub(stage))).build_model(torch.float32)


@attack("run folders", says="model._target_")
def a_target_inside_an_option(stage):
    inside = {"_target_": "torch.hub.load"} | {key: value for key, value in hub(stage).items() if key != "_target_"}
    model = {"_target_": "runner.api.hydra_call.hydra.utils.instantiate", "args": [], "config": inside}
    open_run(folder(stage, model=model | {"_execution_whitelist_": ["torch.hub.load"]})).build_model(torch.float32)


@attack("run folders", says="what reads the environment is typed")
def the_environment_in_a_configuration(stage):
    def edit(config):
        config["data"] |= {"_target_": "runner.data.image_folder.load_image_folder", "root": READS}

    open_data(open_run(folder(stage, edit=edit)).config.data)


@attack("run folders", says="model._target_")
def a_model_of_another_kind_in_a_comparison(stage):
    run = folder(stage, model=hub(stage))
    plan = json.loads((run / "run.json").read_text())["plan"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(one_update, "resolve_plan", _begin_with_the_model)
        one_update.compute_updates(run, plan["identity"], plan["performance"], [])


def _begin_with_the_model(plan, config, *_, **__):
    from runner.models.build import build_network

    build_network(config.model, channels=1, num_classes=10, image_size=8, norm="batch")


@attack("checkpoints", says="something other than tensors and plain values")
def a_pickle_beside_the_weights(stage):
    run = folder(stage)
    state = next(run.glob("checkpoints/step_*/state.pt"))
    torch.save({"ledger_entry": Pickle(stage.payload)}, state)
    path = state.parent / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest.pop("digest")
    manifest["sha256"]["state.pt"] = hashlib.sha256(state.read_bytes()).hexdigest()
    path.write_bytes(seal(manifest))
    open_run(run)


@attack("studies", says="something other than the state of CMA-ES")
def a_pickle_in_the_journal_of_a_search(stage):
    storage = JournalStorage(JournalFileBackend(str(stage.folder / "search.journal")))
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        sampler = sampling.build_sampler({"_target_": "optuna.samplers.CmaEsSampler", "n_startup_trials": 0}, {})
        study = optuna.create_study(storage=storage, sampler=sampler)
        space = {name: optuna.distributions.FloatDistribution(0.0, 1.0) for name in "ab"}
        trial = study.ask(space)
        text = pickle.dumps(Pickle(stage.payload)).hex()
        storage.set_trial_system_attr(trial._trial_id, f"{sampler._attr_key_optimizer}:0", text)
        study.tell(trial, 0.5)
        study.ask(space)
    finally:
        optuna.logging.set_verbosity(level)


@attack("samplers", says="hydra.sweeper.sampler.independent_sampler._target_")
def a_target_inside_a_sampler(stage):
    inside = {"_target_": "subprocess.getoutput", "_args_": [stage.payload]}
    sampling.build_sampler({"_target_": "optuna.samplers.GPSampler", "independent_sampler": inside}, {})


@attack("samplers", says="hydra/sweeper/pruner")
def a_shell_as_a_pruner(stage):
    sampling.build_pruner({"_target_": "subprocess.getoutput", "_args_": [stage.payload]})


@attack("weights", says="model.pretrained_cfg")
def weights_of_timm_from_an_address_of_the_strangers(stage):
    with listener(stage) as port:
        source = {"url": f"http://127.0.0.1:{port}/weights.pth", "hf_hub_id": None}
        given = {"in_channels": 3, "num_classes": 2, "image_size": 32, "pretrained_cfg": source}
        from_timm.build(name="resnet10t", pretrained=True, **given)
