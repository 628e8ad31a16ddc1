"""A run that waits for its data says so once, with the key to change; one that computes says nothing."""

import json

import pytest

from runner.bench.jpeg_files import write_small
from runner.data.open import open_data
from runner.planning.build import build_plan
from runner.planning.device import detect_device
from runner.records.step_time import PHASES, StepTime
from runner.training.distributed.world import SingleProcess, torch_device
from runner.training.parts import build_parts
from runner.training.profiling import slow_input
from runner.training.profiling.slow_input import name_slow_input


def timed(data, *, steps=20):
    return StepTime.of(dict.fromkeys(PHASES, 0.0) | {"data": data, "forward": 1 - data}, steps=steps)


@pytest.fixture
def parts(configure):
    def parts(*overrides):
        config = configure("data=synthetic", "data.num_train=64", "hardware=cpu", *overrides)
        data = open_data(config.data)
        device = detect_device(config.hardware)
        return build_parts(build_plan(config, data, device, processes=1), data, SingleProcess(torch_device("cpu")))

    return parts


@pytest.mark.parametrize(("overrides", "key"), [
    (("data.augment.flip=true", "data.augment.hue=0.1"), "data.augment.hue=0,"),
    (("data.augment.random_resized_crop=true",), "data.augment.random_resized_crop=false"),
])  # fmt: skip
def test_the_note_has_the_share_the_times_and_the_key(parts, overrides, key):
    (note,) = name_slow_input(parts(*overrides), timed(0.6))
    assert note.startswith("data take 60 % of a step (30 of 50 ms, 20 steps timed); " + key)


def test_nothing_is_said_without_evidence_or_without_a_cure(parts):
    slow, held = parts("data.augment.hue=0.1"), parts()
    assert name_slow_input(slow, timed(0.5))
    assert not name_slow_input(slow, timed(0.49))
    assert not name_slow_input(slow, timed(0.9, steps=9))
    assert not name_slow_input(slow, None)
    assert not name_slow_input(held, timed(0.9))


def test_a_run_without_a_cache_says_so_in_its_log_and_its_record(train, tmp_path, monkeypatch, caplog):
    # Small enough to be normalised beforehand, if nothing were changed at random.
    write_small(tmp_path / "images", 40, images=None)
    monkeypatch.setattr(slow_input, "SHARE", 0.0)
    monkeypatch.setattr(slow_input, "ENOUGH", 1)
    recipe = ("data=image_folder", f"data.root={tmp_path}/images", "data.augment.flip=true", "model=mlp",
              "data.batch_size=4", "trainer.epochs=null", "trainer.steps=5")  # fmt: skip
    notes = json.loads((train(*recipe, "data.cache=off") / "run.json").read_text())["notes"]
    assert len(notes) == 1
    assert "data.cache=disk or data.cache=memory" in notes[0]
    assert [record.message for record in caplog.records].count(notes[0]) == 1
