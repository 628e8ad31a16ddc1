"""Searches in the test's own process: composed as the command line does, and each trial run where it is launched."""

import json
from pathlib import Path

import optuna
from omegaconf import OmegaConf, open_dict

from runner.config.load import load_config
from runner.config.request.exclusive_keys import exclusive_with
from runner.config.request.request import read_request
from runner.config.rules.rules import check
from runner.config.words.override_lines import key_of
from runner.errors import RequestError
from runner.execution.job import run_job
from runner.records.run_file import RUN_FILE, RunRecord, write_run
from runner.search.cell_context import find_context
from runner.search.study_storage import JOURNAL_FILE, open_storage
from runner.search.worker import Worker

RECIPE = (
    "data=synthetic",
    "data.num_train=32",
    "data.num_val=16",
    "data.num_test=16",
    "data.image_size=4",
    "data.batch_size=16",
    "model=linear",
    "trainer.epochs=2",
    "hardware=cpu",
    "hardware.threads=1",
    "tracker=none",
)
LR = "optimizer.lr=tag(log,interval(0.01,1))"


class Launcher:
    """Runs one trial after the other in this process; ``before`` is called with the folder of each."""

    def __init__(self, composer, config, before=None):
        self.composer, self.config, self.before, self.launched = composer, config, before, []

    def launch(self, job_overrides, initial_job_idx):
        for overrides in job_overrides:
            composed = self.composer._loader.load_sweep_config(self.config, list(overrides))
            folder = Path(composed.hydra.sweep.dir, str(composed.hydra.sweep.subdir))
            folder.mkdir(parents=True, exist_ok=True)
            self.launched.append(folder.name)
            with open_dict(composed.hydra):
                composed.hydra.runtime.output_dir = str(folder)
                composed.hydra.job.num = initial_job_idx
            try:
                if self.before is not None:
                    self.before(folder)
                config = load_config(composed, self.composer.option_defaults(composed))
                check(config)
                run_job(config, {}, folder, find_context(config, composed))
            except (RequestError, RuntimeError) as error:
                if not (folder / RUN_FILE).exists():
                    write_run(
                        folder, RunRecord(name="trial", status="running").fail(str(error), getattr(error, "key", None))
                    )


def prepare(composer, folder, *overrides, before=None, base=RECIPE):
    """A worker that has not begun, and its launcher; its trials are ``base`` with ``overrides``."""
    typed = {key_of(line) for line in overrides}
    base = [line for line in base if typed.isdisjoint(exclusive_with(key_of(line)))]
    lines = [*base, "hydra/sweeper=optuna", f"hydra.sweep.dir={folder}", *overrides]
    request = read_request(composer, lines, multirun=True, check=lambda *_: None)
    own = [line for line in lines if line.startswith("hydra") or line.startswith("sweep=")]
    config = composer.compose(own)
    task = [line for line in lines if not line.startswith("hydra")]
    with open_dict(config.hydra):
        config.hydra.overrides.task = OmegaConf.create(task)
    launcher = Launcher(composer, config, before)
    return Worker(config, composer, launcher, task if request is None else request.lines), launcher


def search(composer, folder, *overrides, before=None, base=RECIPE):
    """Search to the end; returns the numbers of the trials that were launched."""
    worker, launcher = prepare(composer, folder, *overrides, before=before, base=base)
    worker.work()
    return launcher.launched


def study_in(folder, name="search"):
    """The study as anybody would load it."""
    return optuna.load_study(study_name=name, storage=open_storage(str(Path(folder) / JOURNAL_FILE)).backend)


def run_of(folder, number):
    return json.loads((Path(folder) / str(number) / RUN_FILE).read_text())
