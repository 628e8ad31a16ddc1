"""What is left to the machine is measured once and then stays: over runs, resumes and the cells of a sweep."""

import json

import pytest
import torch

from runner.autotune.precision import Candidate, _choose, _still_in, open_candidates
from runner.autotune.resolve import _what, _where, resolve_plan
from runner.data.open import open_data
from runner.execution.job import run_job
from runner.execution.sweep_context import SweepContext
from runner.planning.build import build_plan
from runner.planning.device import Device, detect_device
from runner.planning.native_types import of_capability
from runner.training.distributed.world import SingleProcess

RECIPE = ("tracker=none", "hardware=cpu", "hardware.threads=1", "data.limit=60", "model=linear", "trainer.steps=2",
          "scheduler=constant")  # fmt: skip
AUTO = (*RECIPE, "precision=auto")


@pytest.fixture
def choices(tmp_path):
    """The files in which measured choices are kept."""
    return lambda: sorted((tmp_path / "cache/recipe-runner/choices").glob("*.json"))


def precision_of(run_dir):
    return json.loads((run_dir / "run.json").read_text())["plan"]["semantic"]["precision"]


def swap(path):
    """Replace the choice in a file by another one; returns its type."""
    kept = json.loads(path.read_text())
    other = "bfloat16" if kept["choice"]["dtype"] == "float32" else "float32"
    path.write_text(json.dumps(kept | {"choice": kept["choice"] | {"dtype": other, "reason": "swapped"}}))
    return other


def test_a_choice_is_measured_once_kept_and_never_made_again_for_a_run(train, choices):
    first = train(*AUTO)
    (path,) = choices()
    chosen = precision_of(first)
    assert chosen["requested"] == "auto"
    assert chosen["dtype"] in ("float32", "bfloat16")
    assert "float32 channels_last" in chosen["reason"]
    assert "bfloat16 channels_last" in chosen["reason"]
    other = swap(path)
    # a new run reads the file, wherever it is; the old one stays what it was, to the end of its days
    assert precision_of(train(*AUTO))["dtype"] == other
    before = (first / "run.json").read_bytes()
    train(*AUTO, run_dir=first)
    assert (first / "run.json").read_bytes() == before
    record = json.loads(before)
    (first / "run.json").write_text(json.dumps(record | {"status": "running"}))
    train(*AUTO, run_dir=first)
    assert precision_of(first) == chosen
    assert choices() == [path]


@pytest.mark.parametrize("named", [("precision=bf16",), ("precision=mixed",), ("precision=auto", "deterministic=true")])
def test_nothing_is_measured_where_there_is_nothing_to_choose(train, choices, named):
    found = precision_of(train(*RECIPE, *named))
    assert choices() == []
    assert "ms for an update" not in found["reason"]


def test_cells_of_a_sweep_agree_whatever_differs_between_them(configure, tmp_path, choices):
    """The first cell decides, so a second batch size neither measures nor follows what the cache says by now."""
    cells = []
    for number, batch in enumerate(("16", "32")):
        cell = tmp_path / "sweep" / str(number)
        cell.mkdir(parents=True)
        run_job(configure(*AUTO, f"data.batch_size={batch}"), {}, cell, SweepContext(folder=tmp_path / "sweep"))
        cells.append(precision_of(cell))
        swap(choices()[0])
    assert cells[0] == cells[1]
    assert len(choices()) == 1


def test_a_private_run_asks_the_cache_nothing_about_its_data(configure):
    """Other private images, and fewer of them, but the same question."""
    questions = []
    for changes in (("data.split_seed=5",), ("data.limit=40",)):
        config = configure(*AUTO, "trainer=dp", "privacy.noise_multiplier=1", "data.batch_size=8", *changes)
        plan = build_plan(config, open_data(config.data), detect_device(config.hardware), processes=1)
        questions.append({**_what(plan), **_where(plan, config)})
    assert questions[0] == questions[1]
    assert questions[0]["private"]


def test_a_folder_that_keeps_nothing_and_a_damaged_file_cost_a_measurement_only(train, choices, tmp_path, caplog):
    train(*AUTO)
    (path,) = choices()
    path.write_text("{")
    train(*AUTO)
    json.loads(path.read_text())
    folder = path.parent
    for file in (path, folder / ".lock"):
        file.unlink()
    folder.rmdir()
    folder.write_text("in the way")
    assert "ms for an update" in precision_of(train(*AUTO))["reason"]
    assert "cannot be kept" in caplog.text


CONVOLUTIONS = (*RECIPE[:4], "model=small_cnn", "scheduler=constant", "precision=bf16")
LONG = (*CONVOLUTIONS, "trainer.epochs=200000")


@pytest.fixture
def settled(configure):
    """settled("key=value", ...) -> the performance part of a plan in which nothing is left open."""

    def settled(*overrides, **folders):
        config = configure(*overrides)
        device = detect_device(config.hardware)
        plan = build_plan(config, open_data(config.data), device, processes=1)
        world = SingleProcess(torch.device("cpu"))
        return resolve_plan(plan, config, device, world, **folders).performance

    return settled


def turn(path):
    """Replace the memory format in a file of a choice by the other one, which it returns."""
    kept = json.loads(path.read_text())
    other = not kept["choice"]["channels_last"]
    path.write_text(json.dumps(kept | {"choice": kept["choice"] | {"channels_last": other, "reason": "turned"}}))
    return other


def test_the_memory_format_of_a_longer_run_is_measured_and_kept(settled, choices, tmp_path):
    first = settled(*LONG)
    (path,) = choices()
    assert "bfloat16 channels_last" in first.channels_last_reason
    assert "bfloat16 contiguous" in first.channels_last_reason
    other = turn(path)
    assert settled(*LONG).channels_last is other
    assert settled(*LONG, "seed=3").channels_last_reason == "turned"
    # what was asked for, a fixed rule or a short run: whatever was measured before
    assert settled(*LONG, f"hardware.channels_last={not other}").channels_last is not other
    for fixed in ((*LONG, "deterministic=true"), (*CONVOLUTIONS, "trainer.steps=2")):
        assert settled(*fixed).channels_last is True
        assert settled(*fixed).channels_last_reason is None
    # a sweep stays with what its first cell was given
    sweep = tmp_path / "sweep"
    assert settled(*LONG, sweep_dir=sweep).channels_last is other
    turn(path)
    assert settled(*LONG, "data.batch_size=32", sweep_dir=sweep).channels_last is other
    assert choices() == [path]


def test_a_run_keeps_the_memory_format_that_it_began_with(train, settled, choices):
    short = (*CONVOLUTIONS, "trainer.steps=2")
    folder = train(*short, "hardware.channels_last=false")
    assert settled(*short).channels_last is True
    assert settled(*short, run_dir=folder).channels_last is False
    assert settled(*LONG, run_dir=folder).channels_last is False
    assert choices() == []


def test_a_model_without_convolutions_is_given_no_reason(settled, choices):
    assert settled(*LONG, "model=linear").channels_last_reason is None
    assert len(choices()) == 1


def test_the_candidates_are_what_the_device_has_and_the_request_leaves_open(configure):
    gpu = {"kind": "cuda", "name": "GPU", "count": 1, "memory_bytes": 1 << 34}
    old = Device(native=of_capability(6, 1, bf16=False), **gpu)
    new = Device(native=of_capability(8, 0, bf16=True), **gpu)
    assert {candidate.dtype for candidate in open_candidates(old, None)} == {"float32"}
    assert {candidate.dtype for candidate in open_candidates(new, None)} == {"float32", "bfloat16", "float16"}
    cpu = detect_device(configure("hardware=cpu").hardware)
    assert {candidate.dtype for candidate in open_candidates(cpu, None)} == {"float32", "bfloat16"}
    assert all(candidate.channels_last is False for candidate in open_candidates(new, False))
    assert [str(candidate) for candidate in open_candidates(new, None, "float16")] == [
        "float16 channels_last",
        "float16 contiguous",
    ]


def test_another_rounding_is_taken_for_a_gain_only():
    wide, narrow = Candidate(dtype="float32", channels_last=True), Candidate(dtype="bfloat16", channels_last=True)
    other = Candidate(dtype="float32", channels_last=False)
    assert _choose({wide: [1.0], other: [0.995], narrow: [0.995]}) == wide
    assert _choose({wide: [1.0], other: [0.98], narrow: [0.975]}) == other
    assert _choose({wide: [1.0], other: [0.999], narrow: [0.9]}) == narrow
    assert _choose({wide: [], other: [], narrow: [1.0]}) == narrow
    assert _choose({wide: [1.0, 2.0, 2.0], narrow: [1.1, 1.8, 1.8]}) == wide
    # a machine that slows down by half, and one disturbed update, deceive neither the choice nor what is timed again
    drifting = {wide: [1.0, 1.5, 2.0, 2.1, 9.0, 2.0], other: [1.02, 1.53, 2.04, 2.142, 2.1, 2.04], narrow: [1.2]}
    assert _choose(drifting) == wide
    assert _still_in([wide, other], drifting) == [wide, other]
    clear = drifting | {wide: [1.0, 1.5, 2.0, 2.1, 2.0, 2.0]}
    assert _still_in([wide, other], clear) == [wide]
    assert _still_in([wide, narrow], {wide: [2.6], narrow: [1.0]}) == [wide, narrow]
    assert _still_in([wide, narrow], {wide: [2.6, 0.9], narrow: [1.0, 1.1]}) == [wide, narrow]
    assert _still_in([wide, narrow], {wide: [2.6, 1.6], narrow: [1.0, 1.0]}) == [narrow]
    assert _still_in([], {}) == []
