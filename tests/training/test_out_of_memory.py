"""Where memory runs out, the same logical batch is done again in smaller pieces, with the same numbers."""

import json
import shutil

import pytest
import torch

from runner.error_texts import is_out_of_memory
from runner.errors import ExitCode, RunError
from runner.execution.job import run_job
from runner.records.metrics import read_metrics
from runner.training.checkpointing.checkpoint import load_checkpoint
from tests.faults.hungry import ERRORS

# 203 examples and a logical batch of 48: four whole batches and one of 11 an epoch
RECIPE = (
    "tracker=none", "data.limit=203", "precision=fp64", "data.batch_size=24", "trainer.accumulation_steps=2",
    "trainer.epochs=2", "trainer.clip_norm=0.5", "trainer.log_every=1", "optimizer.lr=0.1", "hardware.threads=1",
    "trainer.ema_decay=0.8", "hardware=cpu", "trainer.save_every=1",
)  # fmt: skip
PRIVATE = (
    "trainer=dp",
    "privacy.noise_multiplier=1",
    "privacy.unsafe_noise_seed=5",
    "trainer.clip_norm=null",
    "privacy.grad_sample=ghost",
)
TWO = ("hardware.processes=2", "data.batch_size=12")
TIMES = {"samples_per_second", "seconds"}


@pytest.fixture
def run(configure, tmp_path, monkeypatch):
    """run("key=value", ..., room=6) trains the network of ``tests.faults.hungry`` and returns its folder."""
    monkeypatch.setenv("RECIPE_RUNNER_TARGETS", "tests.faults")
    count = iter(range(100))

    def run(*overrides, run_dir=None, exit_code=ExitCode.DONE, **hungry):
        if run_dir is None:
            run_dir = tmp_path / f"run{next(count)}"
            run_dir.mkdir()
        config = configure(*RECIPE, *overrides)
        config.model.target, config.model.options = "tests.faults.hungry.build", hungry
        assert run_job(config, {}, run_dir, None).exit_code == exit_code
        return run_dir

    return run


def weights(run_dir):
    found = load_checkpoint(run_dir / "checkpoints" / "last").weights
    return torch.cat([found[name].double().flatten() for name in sorted(found)])


def figures(run_dir):
    records = [list(record.items()) for record in read_metrics(run_dir / "metrics.jsonl")]
    return [value for record in records for key, value in record if key not in TIMES]


def halvings(run_dir):
    found = json.loads((run_dir / "run.json").read_text())["out_of_memory"]
    return [tuple(halving.values()) for halving in found]


def assert_equal(run_dir, whole):
    torch.testing.assert_close(weights(run_dir), weights(whole), rtol=1e-11, atol=1e-13)
    for ours, theirs in zip(figures(run_dir), figures(whole), strict=True):
        # under DP the reported losses, and nothing else, are float32
        assert ours == (pytest.approx(theirs, rel=1e-6) if isinstance(theirs, float) else theirs)


@pytest.mark.parametrize(
    ("recipe", "hungry", "expected"),
    [
        # each update has two micro-batches of 24, an epoch's last one has 11 examples
        ((), {"room": 12, "call": 1}, [(1, "training", 12, 4)]),
        ((), {"room": 8, "call": 1, "error": "cpu"}, [(1, "training", 12, 4), (1, "training", 6, 8)]),
        ((), {"room": 6, "call": 4, "error": "python"}, [(2, "training", 12, 4), (2, "training", 6, 8)]),
        ((), {"room": 5, "call": 9}, [(5, "training", 5, 10)]),
        ((), {"room": 7, "phase": "evaluation"}, [(5, "evaluation", 10, None), (5, "evaluation", 5, None)]),
        (PRIVATE, {"room": 12, "call": 4}, None),
    ],
    ids=["first-step", "twice", "mid-run", "short-batch", "evaluation", "dp"],
)
def test_the_numbers_are_those_of_a_run_with_room(run, recipe, hungry, expected):
    whole = run(*recipe, "data.eval_batch_size=20")
    small = run(*recipe, "data.eval_batch_size=20", **hungry)
    assert_equal(small, whole)
    assert halvings(whole) == []
    assert 1 <= len(halvings(small)) <= 2
    assert expected is None or halvings(small) == expected


@pytest.mark.parametrize("recipe", [("trainer=accelerate",), PRIVATE], ids=["accelerate", "dp"])
def test_one_process_of_two_runs_out_and_both_halve(run, recipe):
    whole = run(*recipe)
    small = run(*recipe, *TWO, room=6, call=4, rank=1)
    assert_equal(small, whole)
    assert len(halvings(small)) == 1
    assert halvings(small)[0][1:] == ("training", 6, 4)


def test_what_fits_is_remembered_and_another_request_is_taken_at_its_word(run):
    whole = run()
    small = run(room=12, call=1)
    for request in ((), ("data.batch_size=48", "trainer.accumulation_steps=1")):
        # killed in its second epoch
        record = json.loads((small / "run.json").read_text())
        (small / "run.json").write_text(json.dumps(record | {"status": "running"}))
        shutil.rmtree(small / "checkpoints" / "step_00000010")
        run(*request, run_dir=small, room=12, call=1)
        assert_equal(small, whole)
    first, *second = halvings(small)
    assert first == (1, "training", 12, 4), "once, and not again after the first resume"
    assert second == [(6, "training", 24, 2), (6, "training", 12, 4)]


@pytest.mark.parametrize("put_back", [True, False])
def test_batch_statistics_are_put_back(run, monkeypatch, put_back):
    """Both runs see micro-batches of 12 in the end; without putting back, the failed attempts count as well."""
    from runner.training.gradients.buffer_snapshot import BufferSnapshot

    if not put_back:
        monkeypatch.setattr(BufferSnapshot, "put_back", lambda self: None)
    whole = weights(run("data.batch_size=12", "trainer.accumulation_steps=4", norm=True))
    small = weights(run(room=12, norm=True))
    assert torch.allclose(small, whole, rtol=1e-12, atol=1e-14) == put_back


def test_one_example_too_many_is_one_line_with_cures(run, tmp_path):
    folder = tmp_path / "failing"
    folder.mkdir()
    with pytest.raises(RunError, match=r"one example at a time; .*data\.image_size.*precision=bf16") as failed:
        run(run_dir=folder, room=0, call=5)
    assert str(failed.value).startswith("step 3: out of memory in training")
    found = json.loads((folder / "run.json").read_text())
    assert (found["status"], found["error"]) == ("failed", str(failed.value))
    with pytest.raises(RunError, match="step 5: out of memory in evaluation with one example at a time"):
        run(*TWO, "trainer=accelerate", room=0, phase="evaluation", rank=1)


def test_another_error_is_not_taken_for_it(run):
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        run(room=6, error="other")
    assert [is_out_of_memory(error()) for error in ERRORS.values()] == [True, True, True, False]
    assert not is_out_of_memory(ValueError("out of memory"))
