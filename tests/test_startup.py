"""What must be answered before torch is imported, and what else may be imported by then."""

import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT

HEAVY = ("torch", "torchvision", "opacus", "wandb", "optuna", "sklearn", "accelerate", "numpy", "dp_accounting")
ASK = f"""
import sys
from runner.commands.train import main
code = main(sys.argv[1:])
print("loaded", [name for name in {HEAVY} if name in sys.modules], "code", code)
"""


def python(folder, *arguments):
    """A fresh interpreter in ``folder``, with nothing of this one's environment."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["--cfg", "job"], 0),
        (["--version"], 0),
        (["data.batchsize=32"], 2),
        (["trainer=dp", "privacy=none"], 2),
        (["--multirun", "precision=fp32,fp17"], 2),
        (["--multirun", "data.batch_size=16,0"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_answers_that_need_no_torch_do_not_import_it(tmp_path, arguments, code):
    ended = python(tmp_path, "-c", ASK, *arguments)
    assert ended.stdout.splitlines()[-1] == f"loaded [] code {code}"
    assert list(tmp_path.iterdir()) == []


def test_the_question_notices_an_import(tmp_path):
    ended = python(tmp_path, "-c", "import numpy\n" + ASK, "--version")
    assert ended.stdout.splitlines()[-1] == "loaded ['numpy'] code 0"


FIRST_STEP_NEEDS_NOT = (
    *("torch._dynamo", "torch._inductor", "torch.distributed.tensor", "torchvision", "opacus", "dp_accounting"),
    *("wandb", "optuna", "sklearn", "scipy", "accelerate", "matplotlib", "triton.language"),
    *("sympy", "torch.fx.experimental.symbolic_shapes"),
)
RUN = f"""
import sys
from runner.commands.train import main
code = main(sys.argv[1:])
print("loaded", [name for name in {FIRST_STEP_NEEDS_NOT} if name in sys.modules], "code", code)
"""


EACH_WAY = """
import sys
from runner.commands.train import main
assert main([*sys.argv[1:], "privacy.grad_sample=functional", "hydra.run.dir=functional"]) == 0
"""


@pytest.mark.parametrize(
    ("command", "first", "number"),
    [
        ("train", "hydra", "SIGINT"),
        ("plan", "hydra", "SIGINT"),
        ("plan", "hydra", "SIGTERM"),
        ("audit", "hydra", "SIGINT"),
        ("compare", "runner.commands.report_arguments", "SIGINT"),
        ("report", "runner.commands.report_arguments", "SIGTERM"),
        ("runs", "runner.report.run_list", "SIGINT"),
        ("bench", "runner.bench.settings", "SIGINT"),
    ],
)
def test_a_signal_while_libraries_are_imported_is_one_line(tmp_path, command, first, number):
    """A finder that is asked for ``first`` stands for a person who presses the keys while a dataclass is made."""
    (tmp_path / "press.py").write_text(
        f"""
import runpy, signal, sys
class Pressed:
    def find_spec(self, name, *_):
        if name == "{first}":
            exec("signal.raise_signal(signal.{number})")
sys.meta_path.insert(0, Pressed())
# a job in the background, as of a shell script, is born deaf to it
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv = ["runner", "{command}", "--version"]
runpy.run_module("runner", run_name="__main__")
"""
    )
    ended = python(tmp_path, "-m", "press")
    assert (ended.returncode, ended.stdout, ended.stderr) == (75, "", "interrupted\n")


def test_a_plain_run_imports_none_of_the_slow_modules_that_it_does_not_use(tmp_path):
    ended = python(
        tmp_path,
        *("-c", RUN, "data=synthetic", "data.num_train=64", "data.image_size=8"),
        *("data.batch_size=16", "model=linear", "trainer.epochs=1", "hardware=cpu", "tracker=none"),
        *("optimizer=adamw", "hydra.run.dir=run"),
    )
    assert ended.stdout.splitlines()[-1] == "loaded [] code 0"


def test_a_private_run_imports_no_compiler(tmp_path):
    ended = python(
        tmp_path,
        *("-c", EACH_WAY + RUN, "data=synthetic", "data.num_train=64", "data.image_size=8", "data.batch_size=16"),
        *("model=linear", "trainer=dp", "privacy.noise_multiplier=1", "privacy.epsilon=null"),
        *("trainer.epochs=1", "hardware=cpu", "tracker=none", "hydra.run.dir=run"),
    )
    assert json.loads((tmp_path / "functional" / "run.json").read_text())["status"] == "completed"
    assert ended.stdout.splitlines()[-1] == "loaded ['dp_accounting', 'scipy'] code 0"


def test_a_process_that_leaves_early_does_what_was_registered_for_its_end(tmp_path):
    # such as the folders that W&B makes when it is imported
    ended = python(
        tmp_path,
        "-c",
        "import atexit; from runner.processes import command_end; atexit.register(print, 'tidied');"
        "command_end.exit_process(3)",
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, "tidied\n", "")
