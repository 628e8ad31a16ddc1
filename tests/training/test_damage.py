"""Damaged checkpoints: found before use, and the run goes on from the newest one that is whole."""

import json
import random
import shutil

import pytest

from runner.data.open import open_data
from runner.errors import RequestError, RunError
from runner.execution.job import run_job
from runner.planning.build import build_plan
from runner.planning.device import detect_device
from runner.training.checkpointing.resume import find_checkpoint
from tests.faults.final_state import differences, final_state

RECIPE = ("data.limit=60", "data.batch_size=16", "model=linear", "trainer.epochs=4", "hardware.threads=1",
          "trainer.save_every=1")  # fmt: skip


def flip(path, draw):
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def killed(run_dir):
    """A run that was killed right after its last checkpoint: a finished one would be left alone."""
    run = json.loads((run_dir / "run.json").read_text())
    (run_dir / "run.json").write_text(json.dumps(run | {"status": "running"}))
    return run_dir


def newest(run_dir):
    return max((run_dir / "checkpoints").glob("step_*"))


def test_a_hundred_flipped_bits_each_lead_to_the_checkpoint_before_with_one_warning(train, configure):
    run_dir = killed(train(*RECIPE))
    config = configure("tracker=none", *RECIPE)
    device = detect_device(config.hardware)
    plan = build_plan(config, open_data(config.data), device, processes=1)
    draw = random.Random(0)
    files = sorted(newest(run_dir).iterdir())
    assert len(files) == 3
    for trial in range(100):
        file = files[trial % 3]
        original = file.read_bytes()
        flip(file, draw)
        warnings = []
        checkpoint = find_checkpoint(run_dir, plan, warn=warnings.append)
        assert checkpoint.step == 12, f"{file.name}, trial {trial}"
        assert len(warnings) == 1
        assert file.name in warnings[0]
        file.write_bytes(original)
    assert find_checkpoint(run_dir, plan, warn=pytest.fail).step == 16


@pytest.mark.parametrize("name", ["model.safetensors", "state.pt", "manifest.json"])
def test_a_run_that_goes_on_from_the_one_before_ends_with_the_same_bits(train, caplog, name):
    run_dir = train(*RECIPE)
    whole = final_state(run_dir)
    killed(run_dir)
    flip(newest(run_dir) / name, random.Random(1))
    train(*RECIPE, run_dir=run_dir)
    assert not differences(final_state(run_dir), whole)
    assert [record.message for record in caplog.records if name in record.message and "step 12" in record.message]


def test_when_none_is_whole_the_run_says_so_and_touches_nothing(train, configure):
    run_dir = killed(train(*RECIPE))
    for path in (run_dir / "checkpoints").glob("step_*"):
        (path / "state.pt").write_bytes(b"")
    before = sorted((path, path.stat().st_mtime_ns) for path in run_dir.rglob("*"))
    with pytest.raises(RunError, match="none of the"):
        run_job(configure("tracker=none", *RECIPE), {}, run_dir, None)
    assert sorted((path, path.stat().st_mtime_ns) for path in run_dir.rglob("*")) == before


OTHER_RECIPES = {
    "optimizer.lr=0.2": "optimizer.lr: got 0.2, expected 0.05, as in",
    "data.batch_size=8": "data.batch_size: got 8, expected 16, as in",
    "trainer.epochs=3": "trainer.epochs: got 12 updates, expected 16 updates, as in",
    "trainer.epochs=5": "trainer.epochs: got 20 updates for a run of 16, whose learning rates depend on its length (",
    "trainer.clip_norm=1": "trainer.clip_norm: got 1.0, expected null, as in",
    "precision=bf16": "precision.amp_dtype: got bfloat16, expected float32, as in",
    "data.limit=50": "data: got ",
    "seed=1": "seed: got 1, expected 0, as in",
    "optimizer.momentum=0.5": "optimizer.momentum: got 0.5, expected 0.9, as in",
}


def test_another_recipe_is_refused_by_its_first_key_and_both_values(train, configure):
    run_dir = killed(train(*RECIPE))
    for change, message in OTHER_RECIPES.items():
        with pytest.raises(RequestError) as refused:
            run_job(configure("tracker=none", *RECIPE, change), {}, run_dir, None)
        assert str(refused.value).startswith(message)
        assert "hydra.run.dir" in str(refused.value)


def test_what_a_kill_left_behind_is_cleared_up(train):
    run_dir = train(*RECIPE)
    whole = final_state(run_dir)
    killed(run_dir)
    checkpoints = run_dir / "checkpoints"
    shutil.copytree(newest(run_dir), checkpoints / ".step_00000020.1.tmp")
    (checkpoints / ".last.1.tmp").symlink_to("step_00000016")
    (checkpoints / "best").unlink()  # killed between the two links
    (run_dir / ".run.json.ab.tmp").write_text(json.dumps({}))
    train(*RECIPE, run_dir=run_dir)
    assert not differences(final_state(run_dir), whole)
