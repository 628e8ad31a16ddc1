"""``python -m runner plan``: what it says is what then happens, and nothing is left but a note in the cache."""

import contextlib
import json
import os
import subprocess
import sys

import pytest

from runner.commands.plan import main
from runner.errors import RunError
from runner.forecast import sweep_forecast
from runner.records.run_file import read_run
from runner.sweeping.preload import modules_for
from tests.conftest import ROOT, last_of_each

RECIPE = ["tracker=none", "hardware=cpu", "hardware.threads=1", "data.limit=200", "model=linear", "trainer.epochs=2"]


@pytest.fixture
def plan(tmp_path, capsys):
    """plan("--flag", "key=value", ...) -> (exit code, stdout, stderr) of the command in this process."""

    def plan(*arguments):
        with contextlib.chdir(tmp_path):
            code = main(list(arguments))
        return code, *capsys.readouterr()

    return plan


@pytest.mark.parametrize("overrides", [[], ["trainer=dp", "privacy.epsilon=2"]], ids=["ordinary", "private"])
def test_what_is_foreseen_is_what_happens(plan, train, overrides, tmp_path):
    code, out, _ = plan("--json", "-", *RECIPE, *overrides)
    assert code == 0
    foreseen = json.loads(out)
    before = sorted(path for path in tmp_path.rglob("*") if "cache" not in path.parts)
    record = read_run(train(*RECIPE[1:], *overrides))
    assert not before, "planning leaves files in the cache alone"
    assert foreseen["plan"]["identity"] == record.plan["identity"]
    assert foreseen["plan"]["semantic"]["steps"] == record.steps
    spent = record.privacy and record.privacy.epsilon
    assert (foreseen["plan"]["semantic"]["privacy"] or {}).get("epsilon") == spent
    kept = record.prediction
    assert kept["method"] == "probe"
    assert kept["seconds"] == foreseen["forecast"]["seconds"]["expected"] > 0
    assert kept["seconds_error"] == pytest.approx(kept["seconds"] / record.seconds - 1)
    # in one process memory that is freed is kept, so this is looser than the campaign, whose runs have their own
    assert abs(kept["peak_bytes_error"]) < 0.3


def test_a_run_of_another_plan_takes_no_prediction(plan, train):
    assert plan("--no-probe", *RECIPE)[0] == 0
    record = read_run(train(*RECIPE[1:], "data.batch_size=32"))
    assert record.status == "completed"
    assert record.prediction is None


def test_a_plan_needs_no_folder_for_the_run(plan, tmp_path):
    """The run itself is refused: nothing can be made below a file."""
    (tmp_path / "file").write_text("")
    code, out, err = plan("--no-probe", *RECIPE, "hydra.run.dir=file/run")
    assert (code, err) == (0, "")
    assert "a plan, nothing was run" in out


@pytest.mark.parametrize("flags", [(), ("--no-probe",)])
def test_a_plan_needs_no_cache(plan, tmp_path, flags):
    (tmp_path / "file").write_text("")
    code, out, err = plan(*flags, *RECIPE, "data.cache_dir=file/cache")
    assert (code, err) == (0, "")
    assert "a plan, nothing was run" in out


def test_the_text_says_all_that_is_asked(plan):
    code, out, _ = plan("--no-probe", *RECIPE, "hardware.price_per_hour=3.6", "trainer.accumulation_steps=2")
    assert code == 0
    words = (
        "device ",
        "data ",
        "model ",
        "precision ",
        "batch ",
        "length ",
        "optimizer ",
        "memory ",
        "time ",
        "price ",
    )
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert not [word for word in words if word.strip() not in lines]
    assert "128 = 64 x 2 accumulated x 1 process" in lines["batch"]
    assert "within a factor of 2" in lines["how"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["data.batchsize=3"], "error: data.batchsize: got 3, expected a key that exists; did you mean"),
        (["trainer=dp", "privacy.delta=0.5"], "error: privacy.delta: got 0.5, expected less than 1/n"),
        (["--probe"], "error: --probe: got an unknown flag, expected [--json FILE] [--no-probe] [--advise]"),
        (["--advise", "-m", "seed=1,2"], "error: --advise: got a sweep, expected"),
        (["--config-dir", "nowhere"], "error: --config-dir: got "),
        # at once, whatever else is wrong
        (["--json", "no/such/folder/x.json", "data.batchsize=3"], "error: --json: got no/such/folder/x.json"),
        (["--json", ".", "data.batchsize=3"], "error: --json: got ., expected a file"),
        (["resume=run"], "error: resume: got run, expected no resume: "),
    ],
)
def test_a_wrong_request_is_one_line(plan, arguments, line):
    code, _, err = plan(*arguments)
    assert code == 2
    assert err.startswith(line)
    assert err.count("\n") == 1


def test_an_estimate_imports_neither_compiler_nor_accountant(tmp_path):
    # what would take a second more: the first optimizer, torch's own switch of deterministic algorithms, and the
    # accountant of a private run, which a process beside this one loads
    ask = (
        "import sys; from runner.commands.plan import main; code = main(sys.argv[1:]);"
        "slow = ('torch._dynamo', 'torch._inductor', 'torchvision', 'dp_accounting', 'scipy');"
        "print([name for name in slow if name in sys.modules], code)"
    )
    ended = subprocess.run(
        [
            *(sys.executable, "-c", ask),
            *last_of_each(["--no-probe", *RECIPE, "model=small_cnn", "trainer=dp", "privacy.epsilon=2"]),
        ],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "RECIPE_RUNNER_PLAIN_TORCH": "0"},
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    assert "privacy    ε=2.00" in ended.stdout
    assert ended.stdout.splitlines()[-1] == "[] 0"


def test_a_cell_is_assessed_with_the_libraries_that_its_neighbours_need(plan, configure, monkeypatch):
    """What cells are forked from has imported them, and every cell's memory counts them."""

    def start(modules):
        raise RunError(" ".join(modules))

    monkeypatch.setattr(sweep_forecast, "ForkServer", start)
    _, _, err = plan("-m", "trainer=standard,dp", *RECIPE)
    assert set(modules_for([configure(*RECIPE, "trainer=dp")])) <= set(err.split())


def test_the_memory_of_a_rehearsal_is_that_of_a_run():
    """The formulas of operations import triton, 70 MiB that no run holds; they are imported once it is measured."""
    ask = "import sys, runner.forecast.assess, runner.forecast.probed_costs; print('triton.language' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", ask], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout == "False\n"
