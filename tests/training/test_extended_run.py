"""A finished run that goes on beyond its end, exactly or not at all; what is kept of it; a start from its weights."""

import json
import re
import shlex

import pytest
import torch

from runner.errors import RequestError
from runner.execution import job
from runner.inference.finished_run import open_run
from runner.records.run_file import read_run
from runner.training import loop
from runner.training.checkpointing import resume
from runner.training.checkpointing.checkpoint import load_checkpoint
from runner.training.step import TrainStep
from tests.conftest import ROOT
from tests.training.test_resume import final_state

RECIPE = ("data.limit=96", "data.batch_size=16", "model=linear", "hardware=cpu", "hardware.threads=1",
          "trainer.save_every=1", "trainer.ema_decay=0.9", "data.augment.crop_padding=1")  # fmt: skip


def refused(train, *recipe, **more):
    with pytest.raises(RequestError) as error:
        train(*RECIPE, *recipe, **more)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "schedule",
    [
        ("scheduler=constant", "scheduler.warmup_epochs=1"),
        ("scheduler=plateau", "scheduler.patience=0"),
        ("scheduler=step", "scheduler.step_epochs=1"),
    ],
    ids=lambda schedule: schedule[0],
)
def test_an_extended_run_has_the_bits_of_one_that_was_that_long_from_the_beginning(train, schedule):
    whole = final_state(train(*RECIPE, *schedule, "trainer.epochs=4"))
    run = train(*RECIPE, *schedule, "trainer.epochs=2")
    seconds = read_run(run).seconds
    train(*RECIPE, *schedule, "trainer.epochs=4", run_dir=run)
    weights, state, loop_state, records = final_state(run)
    torch.testing.assert_close(weights, whole[0], rtol=0, atol=0)
    torch.testing.assert_close(state, whole[1], rtol=0, atol=0)
    assert (loop_state, records) == whole[2:]
    record = read_run(run)
    assert (record.status, record.epochs) == ("completed", 4)
    assert record.seconds > seconds, "the seconds of both parts"
    assert record.notes[-1] == "extended: begun as a run of 12 updates, to 24"


@pytest.mark.parametrize(
    ("recipe", "longer", "why"),
    [
        (("scheduler=cosine", "trainer.epochs=2"), "trainer.epochs=4", "depend on its length (scheduler=cosine)"),
        (("scheduler=constant", "trainer.epochs=1.5"), "trainer.epochs=3", "which ended within an epoch"),
        (
            ("scheduler=constant", "trainer.epochs=3", "trainer.eval_every=2"),
            "trainer.epochs=4",
            "between two evaluations (trainer.eval_every=2)",
        ),
    ],
)
def test_where_it_would_not_be_exact_it_is_refused_and_the_start_from_weights_named(train, recipe, longer, why):
    run = train(*RECIPE, *recipe)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != ".lock"}
    told = refused(train, *recipe, longer, run_dir=run)
    assert told.startswith("trainer.epochs: got ")
    assert why in told
    assert f"model.weights={run} in another hydra.run.dir" in told
    assert {path: path.read_bytes() for path in before} == before


def test_a_private_run_goes_no_further_than_the_ledger_holds(train):
    private = ("trainer=dp", "model=linear", "data.limit=96", "data.batch_size=16", "hardware=cpu",
               "scheduler=constant", "privacy.noise_multiplier=2", "privacy.delta=1e-3",
               "privacy.grad_sample=ghost")  # fmt: skip
    run = train(*private, "trainer.steps=6")
    with pytest.raises(RequestError, match="private: the ledger holds what it planned before its first step"):
        train(*private, "trainer.steps=12", run_dir=run)


@pytest.mark.parametrize(
    "budget",
    [("privacy.epsilon=3", "trainer.epochs=1"), ("privacy.noise_multiplier=2", "trainer.steps=3")],
    ids=["epsilon", "noise"],
)
def test_a_private_run_that_is_asked_to_go_on_is_refused_in_a_line_with_what_can_be_done(command, tmp_path, budget):
    recipe = ("trainer=dp", "model=linear", "data.limit=96", "data.batch_size=16", "hardware=cpu", "hardware.threads=1",
              "tracker=none", "privacy.delta=1e-3", "privacy.accountant=rdp", "privacy.grad_sample=ghost",
              *budget)  # fmt: skip
    assert command(*recipe, "hydra.run.dir=run")[0] == 0
    code, out, err = command("resume=run", "trainer.epochs=3")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: trainer.epochs: got ")
    assert "which is private: the ledger holds what it planned before its first step" in err
    assert err.endswith(f"model.weights={tmp_path / 'run'} in another hydra.run.dir\n")
    # the way that it names
    code, _, err = command(*recipe, f"model.weights={tmp_path / 'run'}", "hydra.run.dir=longer")
    assert code == 0, err


def test_other_differences_are_told_as_before(train):
    run = train(*RECIPE, "scheduler=constant", "trainer.epochs=2")
    assert refused(train, "scheduler=constant", "trainer.epochs=1", run_dir=run).startswith("trainer.epochs: got 6")
    assert "optimizer.lr" in refused(train, "scheduler=constant", "trainer.epochs=4", "optimizer.lr=0.3", run_dir=run)


def test_without_the_check_a_cosine_would_go_on_to_other_bits(train, monkeypatch):
    """A negative control: what is refused differs."""
    for module in (job, resume):
        monkeypatch.setattr(module, "refuse_inexact", lambda *_: None)
    whole = final_state(train(*RECIPE, "scheduler=cosine", "trainer.epochs=3"))
    run = train(*RECIPE, "scheduler=cosine", "trainer.epochs=2")
    train(*RECIPE, "scheduler=cosine", "trainer.epochs=3", run_dir=run)
    assert not torch.equal(final_state(run)[0]["1.weight"], whole[0]["1.weight"])


@pytest.fixture
def best_first(monkeypatch):
    """The first evaluation is the best one."""
    found = iter((1.0 + number, 0.9 / (1 + number)) for number in range(100))
    monkeypatch.setattr(loop, "evaluate", lambda *_, **__: next(found))


def steps_of(run):
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def test_what_is_kept_bounds_the_disk_and_a_run_without_its_last_state_does_not_go_on(train, best_first):
    recipe = ("scheduler=constant", "trainer.epochs=3")
    run = train(*RECIPE, *recipe, "trainer.keep=best")
    assert steps_of(run) == ["best", "step_00000006"]
    assert load_checkpoint(run / "checkpoints" / "best").state["standing"]["best_step"] == 6
    told = refused(train, "scheduler=constant", "trainer.epochs=4", "trainer.keep=best", run_dir=run)
    assert told.startswith("trainer.keep: got best, which left the checkpoint of step 6 alone of the finished run in")
    assert f"model.weights={run} in another hydra.run.dir" in told


def test_the_last_checkpoint_that_was_not_kept_is_not_taken_for_the_best(command, tmp_path, best_first):
    recipe = [*RECIPE, "scheduler=constant", "trainer.epochs=2", "trainer.keep=best", "tracker=none"]
    assert command(*recipe, "hydra.run.dir=run")[0] == 0
    assert open_run(tmp_path / "run").step == 6
    with pytest.raises(RequestError, match=r"trainer\.keep=best has kept no other checkpoint"):
        open_run(tmp_path / "run", "last")


def test_weights_alone_are_the_same_weights_and_no_state_to_go_on_from(train):
    recipe = ("scheduler=constant", "trainer.epochs=2")
    both = train(*RECIPE, *recipe)
    run = train(*RECIPE, *recipe, "trainer.keep=weights")
    (best,) = (run / "checkpoints").glob("step_*")
    assert {path.name for path in best.iterdir()} == {"manifest.json", "model.safetensors"}
    torch.testing.assert_close(
        load_checkpoint(run / "checkpoints" / "best").weights,
        load_checkpoint(both / "checkpoints" / "best").weights,
        rtol=0,
        atol=0,
    )
    told = refused(train, "scheduler=constant", "trainer.epochs=3", run_dir=run)
    assert told.startswith("trainer.keep: got weights, which left the weights alone of the finished run in")
    (run / "run.json").unlink()
    assert "trainer.keep: got weights" in refused(train, *recipe, run_dir=run)


def test_an_interrupted_run_keeps_what_it_goes_on_from(train, monkeypatch):
    recipe = ("scheduler=constant", "trainer.epochs=3", "trainer.keep=weights")
    whole = train(*RECIPE, *recipe)
    right = TrainStep.run
    (run := whole.parent / "stopped").mkdir()

    def stop(self, step, *, stop=False):
        if step == 14:
            raise KeyboardInterrupt
        return right(self, step, stop=stop)

    with monkeypatch.context() as patch:
        patch.setattr(TrainStep, "run", stop)
        with pytest.raises(KeyboardInterrupt):
            train(*RECIPE, *recipe, run_dir=run)
    assert load_checkpoint(run / "checkpoints" / "last").resumable
    train(*RECIPE, *recipe, run_dir=run)
    found = [load_checkpoint(path / "checkpoints" / "best") for path in (whole, run)]
    assert not any(checkpoint.resumable for checkpoint in found)
    torch.testing.assert_close(found[0].weights, found[1].weights, rtol=0, atol=0)


def test_the_folder_of_a_run_stands_for_its_best_weights(train, best_first):
    run = train(*RECIPE, "scheduler=constant", "trainer.epochs=2")
    by_folder, by_file = (
        train(*RECIPE, "scheduler=constant", "trainer.epochs=1", f"model.weights={weights}", "seed=1")
        for weights in (run, run / "checkpoints" / "best" / "model.safetensors")
    )
    plans = [json.loads((path / "run.json").read_text())["plan"] for path in (by_folder, by_file)]
    assert plans[0]["identity"] == plans[1]["identity"]
    assert plans[0]["semantic"]["model"]["weights"] == str(run), "as it was typed"
    torch.testing.assert_close(final_state(by_folder)[0], final_state(by_file)[0], rtol=0, atol=0)


def test_the_commands_of_the_documentation(command, tmp_path):
    page = (ROOT / "docs" / "reliability.md").read_text().partition("## After its end")[2]
    block = re.search("```bash\n(.*?)```", page, re.DOTALL)[1].replace("\\\n", " ")
    for line in filter(None, block.split("\n")):
        words = shlex.split(line, comments=True)
        assert words[:3] == ["python", "-m", "runner"]
        code, _, err = command(*words[3:], "tracker=none", "data.limit=60")
        assert code == 0, err
    longer, second = (read_run(tmp_path / "runs" / name) for name in ("first", "second"))
    assert longer.notes[-1].startswith("extended: ")
    assert (longer.epochs, second.plan["semantic"]["model"]["weights"]) == (4, "runs/first")
    assert not open_run(tmp_path / "runs" / "second").checkpoint.joinpath("state.pt").exists()
    code, _, err = command("resume=runs/second", "trainer.epochs=4")
    assert (code, err.count("\n")) == (2, 1)
    assert "error: trainer.epochs: got " in err
    assert "model.weights=" in err
