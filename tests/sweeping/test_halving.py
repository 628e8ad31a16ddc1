"""Successive halving over the epochs of a grid: who is stopped where, and that what goes on is as if never paused."""

import contextlib

import pytest
import torch
from omegaconf import open_dict

from runner.config.load import load_config
from runner.config.request.halving import Rung, plan_rungs
from runner.config.request.request import check_run, read_request
from runner.errors import RequestError
from runner.execution.job import run_job
from runner.records.halving_file import Halving, read_halving, write_halving
from runner.records.run_file import read_run
from runner.report.write import write_report
from runner.search.cell_context import find_context
from runner.sweeping.driver import SweepDriver
from runner.sweeping.halving import SuccessiveHalving
from runner.training.checkpointing.checkpoint import load_checkpoint
from tests.report.sweep_folders import write_sweep

# a schedule that depends on the length, and state beside the weights
RECIPE = (
    *("data=synthetic", "data.num_train=64", "data.num_val=64", "data.num_test=32", "data.image_size=4"),
    *("data.batch_size=16", "model=linear", "trainer.epochs=4", "scheduler=cosine", "trainer.ema_decay=0.9"),
    *("hardware=cpu", "hardware.threads=1", "tracker=none"),
)
GRID = ("optimizer.lr=0.0001,0.3,0.001,0.1", "seed=0,1")
ASKED = "hydra.sweeper.halving=true"


class Killed(BaseException):
    """The driver has gone."""


def raced(composer, folder, kill_after=None):
    """Run the grid in ``folder``; (cell, epochs that it had come to) in the order of the starts."""
    request = read_request(composer, [*RECIPE, *GRID, ASKED, f"hydra.sweep.dir={folder}"], multirun=True,
                           check=check_run)  # fmt: skip
    driver = SweepDriver(composer=composer, request=request, check=check_run, find_context=find_context)
    folder.mkdir(exist_ok=True)
    whole, started = composer.compose([ASKED, f"hydra.sweep.dir={folder}"]), []

    def launch(jobs):
        for number, lines in jobs:
            composed = composer._loader.load_sweep_config(whole, [*lines, f"hydra.sweep.subdir={number}"])
            cell = folder / str(number)
            if (cell / "run.json").exists() and read_run(cell).status == "completed":
                continue
            cell.mkdir(exist_ok=True)
            with open_dict(composed.hydra):
                composed.hydra.runtime.output_dir = str(cell)
            if len(started) == kill_after:
                raise Killed
            config = load_config(composed, composer.option_defaults(composed))
            run_job(config, {}, cell, find_context(config, composed))
            started.append((number, read_run(cell).epochs))

    with contextlib.suppress(Killed):
        SuccessiveHalving(driver, launch).run()
    return driver, started


@pytest.fixture(scope="module")
def whole(composer, tmp_path_factory):
    """The driver of a grid that nobody stopped, and its starts."""
    return raced(composer, tmp_path_factory.mktemp("whole") / "grid")


def test_the_better_half_goes_on_to_the_bits_of_a_run_that_was_never_paused(whole, train):
    driver, started = whole
    # rates 0.0001 and 0.001, the cells 0, 1, 4 and 5, are stopped on both seeds after half of the epochs
    assert started == [*((number, 2) for number in range(8)), *((number, 4) for number in (2, 3, 6, 7))]
    state = read_halving(driver.folder)
    assert (state.rungs, state.until) == ((Rung(epoch=2, keep=2),), None)
    assert state.stopped == {"0": 2, "1": 2, "4": 2, "5": 2}
    statuses = [read_run(driver.folder / str(number)).status for number in range(8)]
    assert statuses == ["pruned", "pruned", "completed", "completed"] * 2
    assert "2 of 4 recipes were stopped early by val_accuracy" in driver.ending
    alone = train(*RECIPE, "optimizer.lr=0.3", "seed=1")
    for name in ("last", "best"):
        one, other = (load_checkpoint(place / "checkpoints" / name) for place in (alone, driver.folder / "3"))
        assert one.weights.keys() == other.weights.keys()
        assert all(torch.equal(one.weights[key], other.weights[key]) for key in one.weights)
    assert read_run(alone).metrics == read_run(driver.folder / "3").metrics


def test_killed_and_started_again_it_stops_the_same(whole, composer, tmp_path):
    _, in_the_first = raced(composer, tmp_path, kill_after=5)
    _, at_the_end = raced(composer, tmp_path, kill_after=4)
    again, after = raced(composer, tmp_path)
    assert [*in_the_first, *at_the_end, *after] == whole[1], "nothing is lost, and nothing is done again"
    assert read_halving(again.folder) == read_halving(whole[0].folder)


@pytest.mark.parametrize(
    ("recipes", "epochs", "every", "rungs"),
    [
        (8, 16, 1, [(4, 4), (8, 2)]),
        (3, 3, 1, [(1, 2)]),
        (5, 40, 1, [(10, 3), (20, 2)]),
        (16, 4, 1, [(1, 8), (2, 4)]),
        (8, 20, 3, [(3, 4), (9, 2)]),
    ],
)
def test_rungs(configure, recipes, epochs, every, rungs):
    config = configure(f"trainer.epochs={epochs}", f"trainer.eval_every={every}")
    assert [(rung.epoch, rung.keep) for rung in plan_rungs(config, recipes)] == rungs


@pytest.mark.parametrize(
    ("typed", "key", "words"),
    [
        (["optimizer.lr=1,2", ASKED], "hydra.sweeper.halving", "more than 2"),
        (["optimizer.lr=1,2,3", "hydra.sweeper.halving=maybe"], "hydra.sweeper.halving", "true or false"),
        (["optimizer.lr=1,2,3", ASKED, "trainer=dp"], "hydra.sweeper.halving", "which no epsilon covers"),
        (["optimizer.lr=1,2,3", ASKED, "trainer=standard,dp"], "hydra.sweeper.halving", "which no epsilon covers"),
        (["optimizer.lr=1,2,3", ASKED, "comparison.until=decided"], "hydra.sweeper.halving", "one of the two"),
        (["optimizer.lr=1,2,3", ASKED, "trainer.steps=9"], "trainer.steps", "rungs are epochs"),
        (["trainer.epochs=2,3,4", ASKED], "trainer.epochs", "one value"),
        (["optimizer.lr=1,2,3", ASKED, "trainer.epochs=3", "trainer.eval_every=2"], "trainer.epochs", "at least 4"),
    ],
)
def test_what_it_cannot_be_asked_of(composer, typed, key, words):
    with pytest.raises(RequestError) as refused:
        read_request(composer, typed, multirun=True, check=check_run)
    assert refused.value.key == key
    assert words in str(refused.value)


def halved(folder, stopped, comparison=None):
    """A sweep of four rates on three seeds of which the first and the third were stopped."""
    cells = []
    for number, rate in enumerate(("0.1", "0.2", "0.3", "0.4")):
        for seed in range(3):
            outcome = "pruned" if number in (0, 2) else 0.9 + number / 100 + seed / 1000
            cells.append((f"optimizer.lr={rate} seed={seed}", outcome, {"curve": (2.0, 1.0 + number / 10)}))
    write_sweep(folder, cells, comparison=comparison, typed=("optimizer.lr=0.1,0.2,0.3,0.4", "seeds=3", ASKED))
    if stopped:
        cells = {str(number): 2 for number in (0, 1, 2, 6, 7, 8)}
        rungs = (Rung(epoch=2, keep=2),)
        write_halving(folder, Halving(monitor="val_accuracy", epochs=4, rungs=rungs, until=None, stopped=cells))
    return folder


def test_the_report_says_how_far_its_statement_reaches(tmp_path):
    report = write_report(halved(tmp_path, stopped=True))
    assert report.verdict.endswith(
        "That is said of the recipes that were trained for all 4 epochs; 2 recipes were stopped early by val accuracy"
        " (lr=0.1 after epoch 2, lr=0.3 after epoch 2), and what they would have come to at full length is not known."
    )
    assert "lr=0.4" in report.verdict
    assert "failed" not in report.verdict
    assert "comparison.until=decided`" in report.verdict
    assert ASKED not in report.verdict, "the two do not go together"
    text = (tmp_path / "report.md").read_text()
    assert "| lr=0.1 | 75.00 % | to epoch 2, then stopped |" in text
    assert "| lr=0.4 | 67.50 % | to the end |" in text
    assert "## Cells without a result" not in text
    # a reference that was stopped compares with nothing at full length
    asked = halved(tmp_path / "asked", stopped=True, comparison={"reference": "0.1"})
    assert "against lr=0.2" in write_report(asked).verdict
    # control: without the note they are runs that have no result
    other = halved(tmp_path / "other", stopped=False)
    write_report(other)
    assert "## Cells without a result" in (other / "report.md").read_text()
    assert "full length" not in (other / "report.md").read_text()
