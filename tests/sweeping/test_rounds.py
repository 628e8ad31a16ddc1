"""Sweeps that run until they are decided: which cells they run, and what they do when they are started again."""

import contextlib
import csv
import dataclasses
import functools
import json
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from runner.config import looks
from runner.config.request.request import check_run, read_request
from runner.config.request.until_decided import check_until
from runner.config.schema import ComparisonConfig
from runner.errors import RequestError
from runner.records.sweep_cells import find_cells, read_asked
from runner.report.cells import read_sweep
from runner.search.cell_context import find_context
from runner.sweeping.driver import SweepDriver
from runner.sweeping.finish import look_at_results
from runner.sweeping.rounds import Rounds
from tests.report.sweep_folders import write_cell

ASKED = ("precision=fp32,bf16,fp16", "comparison.until=decided", "comparison.margin=1")
SHORT = (
    *("comparison.until=decided", "data=synthetic", "data.num_train=64", "data.image_size=8"),
    *("data.batch_size=16", "model=linear", "trainer.steps=2", "hardware=cpu", "hardware.threads=1", "tracker=none"),
    "hydra.sweep.dir=grid",
)


class Killed(BaseException):
    """The driver has gone."""


@functools.cache
def asked(composer, *typed):
    return read_request(composer, [*ASKED, *typed], multirun=True, check=check_run)


@pytest.fixture
def rounds(composer, tmp_path):
    """rounds(accuracy, ...) -> the driver of a sweep whose cells take no time, and the cells that it began.

    ``accuracy(recipe, seed)`` is in percent, or a status other than completed; ``comparison`` changes the question.
    """

    def rounds(accuracy, *, folder="sweep", kill_after=None, seconds=10.0, look=look_at_results, **comparison):
        request = asked(composer)
        configs = [dataclasses.replace(one, comparison=dataclasses.replace(one.comparison, **comparison))
                   for one in request.configs]  # fmt: skip
        request = dataclasses.replace(request, sweep_dir=tmp_path / folder, configs=tuple(configs))
        driver = SweepDriver(composer=composer, request=request, check=check_run, find_context=find_context, look=look)
        driver.folder.mkdir(exist_ok=True)
        begun, said = [], []
        driver.display.begin_round = said.append

        def launch(jobs):
            for number, lines in jobs:
                cell = driver.folder / str(number)
                if cell.exists():
                    continue
                if len(begun) == kill_after:
                    raise Killed
                begun.append(number)
                typed = dict(line.split("=", 1) for line in lines)
                outcome = accuracy(typed["precision"], int(typed["seed"]))
                outcome = outcome if isinstance(outcome, str) else outcome / 100
                question = dataclasses.asdict(configs[0].comparison)
                write_cell(cell, " ".join(lines), outcome, seconds=seconds, comparison=question)

        with contextlib.suppress(Killed):
            Rounds(driver, launch, lambda job: str(job[0])).run()
        return driver, begun, said

    return rounds


def decision_of(driver):
    return look_at_results(driver.folder, find_cells(driver.folder).cells).decision


def noise(seed):
    """Something between -1 and 1 that seeds differ in."""
    return ((seed * 7919 + 13) % 101) / 50 - 1


def close(recipe, seed):
    """Two recipes that differ by a noise which ten seeds see through and five do not, and one that is far worse."""
    own = {"fp32": 0.0, "bf16": 0.9 * noise(seed), "fp16": noise(seed + 7) - 20}
    return 70 + 2 * noise(seed + 31) + own[recipe]


def test_recipes_that_dropped_out_get_no_further_cells(rounds):
    driver, begun, said = rounds(close)
    # fp16 is the third of three: none of its cells beyond the first look, and the numbers of the others as in a grid
    assert begun == [*range(15), *(number for number in range(15, 30) if number % 3 != 2)]
    assert said == [
        "round 1, to 5 seeds a recipe, then a look",
        "round 2, 2 recipes in question (fp32, bf16), to 7 seeds",
        "round 3, 2 recipes in question (fp32, bf16), to 10 seeds",
    ]
    found = decision_of(driver)
    assert (found.decided, found.leader, found.look) == (True, "fp32", 10)
    assert [(one.label, one.look) for one in found.dropped] == [("fp16", 5)]
    assert driver.ending == ""
    noted = read_asked(driver.folder)
    assert {int(name) for name in noted} == set(begun)
    assert noted["28"][-1] == "seed=9"


@pytest.mark.parametrize("kill_after", [0, 7, 15, 18])
def test_killed_and_started_again_it_comes_to_the_same_end(rounds, kill_after):
    whole, every, _ = rounds(close, folder="whole")
    _, before, _ = rounds(close, kill_after=kill_after)
    assert len(before) == kill_after
    again, after, _ = rounds(close)
    assert sorted(before + after) == sorted(every), "nothing was lost, repeated or added"
    assert decision_of(again) == decision_of(whole)


def test_a_look_takes_no_more_than_its_seeds_whatever_lies_there(rounds):
    def lucky(recipe, seed):  # at 5 seeds nothing is shown, at 6 all would be
        return 90 + noise(seed + 31) + (0.0 if recipe == "fp32" or seed == 5 else 2.5 * noise(seed))

    driver, _, _ = rounds(lucky, kill_after=3 * 6 + 1)
    assert {name.isdigit() for name in find_cells(driver.folder).cells} == {True}
    assert decision_of(driver).look == 5
    # control: without the plan a start would judge what it finds, and a kill would choose the look
    for cell in driver.folder.iterdir():
        config = cell / ".hydra" / "config.yaml"
        if config.exists():
            config.write_text(config.read_text().replace("until: decided", "until: null"))
    assert decision_of(driver).look > 5


def test_what_an_earlier_start_left_of_later_rounds_is_not_looked_at_before(rounds):
    rounds(close, kill_after=27)
    _, _, said = rounds(close)
    assert len(said) == 3
    # control: a look at all that lies there decides by the second round's seeds in the first
    _, _, said = rounds(close, look=lambda folder, _: look_at_results(folder, find_cells(folder).cells))
    assert len(said) == 1


def test_it_ends_at_its_limits_and_says_which(rounds):
    def scattered(recipe, seed):
        return 70 + (20 if recipe == "fp32" else 15) * noise(seed + 3 * len(recipe))

    driver, begun, _ = rounds(scattered, folder="seeds", max_seeds=7)
    assert len(begun) == 21
    assert driver.ending == "the sweep has ended undecided after 7 seeds a recipe: comparison.max_seeds=7"
    assert decision_of(driver).look == 7

    rounds(scattered, folder="hours", seconds=1e9, kill_after=3)
    driver, begun, _ = rounds(scattered, folder="hours", max_hours=0.1)
    assert len(begun) == 0
    assert driver.ending.startswith("the sweep has ended undecided after 1 seed a recipe: 12 further cells would")
    assert driver.ending.endswith("and pass comparison.max_hours=0.1")


def test_a_sweep_goes_on_with_more_hours_and_with_no_other_question(rounds, monkeypatch):
    def earlier(folder):
        values = OmegaConf.load(folder / ".hydra" / "config.yaml").comparison if folder.exists() else None
        return values and SimpleNamespace(comparison=ComparisonConfig(**OmegaConf.to_container(values)))

    monkeypatch.setattr("runner.sweeping.rounds.earlier_config", earlier)
    rounds(close, kill_after=16, max_hours=100.0)
    with pytest.raises(RequestError, match=r"^comparison\.max_seeds: got 80, expected 40, as .* began, or another"):
        rounds(close, max_seeds=80)
    driver, begun, _ = rounds(close, max_hours=200.0)
    assert len(begun) == 9
    assert decision_of(driver).decided


def test_a_key_of_the_question_is_no_key_of_a_recipe(rounds):
    driver, _, _ = rounds(close)
    cell = driver.folder / "28" / ".hydra" / "overrides.yaml"
    cell.write_text(cell.read_text() + "- comparison.max_hours=9\n")
    assert "comparison.max_hours" not in read_sweep(driver.folder).varied
    assert decision_of(driver).decided


def test_a_recipe_that_fails_drops_out_and_a_sweep_that_fails_ends(rounds):
    driver, begun, _ = rounds(lambda recipe, seed: "failed" if recipe == "fp16" else close(recipe, seed))
    assert [(one.label, one.reason) for one in decision_of(driver).dropped] == [("fp16", "failures")]
    assert max(number for number in begun if number % 3 == 2) == 14
    driver, begun, _ = rounds(lambda recipe, seed: "failed", folder="all")
    assert begun == list(range(15))


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["seeds=3"], "seeds: got 3 beside comparison.until=decided, expected one of the two"),
        (["seed=1,2"], "seed: got 1,2 with comparison.until=decided, expected one value"),
        (["hydra/sweeper=optuna"], "comparison.until: got decided in a search, expected null"),
        (
            ["precision=bf16", "comparison.max_seeds=2"],
            "comparison.until: got decided with one recipe, expected several",
        ),
    ],
)
def test_what_cannot_be_decided_is_refused_before_it_starts(composer, typed, told):
    lines = {line.partition("=")[0]: line for line in (*SHORT, "precision=fp32,bf16", *typed)}
    with pytest.raises(RequestError) as refused:
        read_request(composer, list(lines.values()), multirun=True, check=check_run)
    assert str(refused.value).startswith(told)


@pytest.mark.parametrize(
    ("typed", "varied", "told"),
    [
        (["comparison.decision=joules"], "seed", "comparison.decision: got joules, expected another cost: no meter"),
        ([], "data.fold", "comparison.until: got decided with several values of data.fold, expected null"),
        (["trainer=dp"], "seed", "privacy.sweep_epsilon: got null with comparison.until=decided, expected a budget"),
        (
            ["trainer=dp", "privacy.selection=random_stopping", "privacy.sweep_epsilon=9"],
            "seed",
            "privacy.selection: got random_stopping with comparison.until=decided, expected composition",
        ),
    ],
)
def test_what_is_no_repeat_and_what_has_no_account_is_refused(configure, typed, varied, told):
    with pytest.raises(RequestError) as refused:
        check_until([configure(*typed)], {varied}, recipes=2, here=True)
    assert str(refused.value).startswith(told)


@pytest.mark.parametrize("typed", ["seeds=2", "seed=3,4"])
def test_seeds_that_are_typed_take_the_place_of_rounds(composer, typed):
    composer.notes.clear()
    lines = ["sweep=precision", "precision=bf16", typed]
    request = read_request(composer, lines, multirun=False, check=check_run)
    assert (request.cells, request.until_decided) == (2, False)
    assert {config.comparison.until for config in request.configs} == {None}
    assert [note for note in composer.notes if f"{typed} takes the place of comparison.until=decided" in note]


def test_private_rounds_keep_to_a_budget_that_is_set_before_the_first(command, tmp_path, monkeypatch):
    monkeypatch.setattr(looks, "FIRST_LOOK", 1)
    typed = ("--multirun", *SHORT, "trainer=dp", "privacy.epsilon=3", "optimizer.lr=0.1,0.2", "comparison.max_seeds=4")
    code, _, err = command(*typed, "privacy.sweep_epsilon=3.5")
    assert code == 2
    assert err.startswith("error: privacy.sweep_epsilon: got 2 cells that compose to ε=")
    assert "(rdp filter, δ=1e-05), expected at most 3.5, which the first " in err
    assert not (tmp_path / "grid").exists()

    code, out, err = command(*typed, "privacy.sweep_epsilon=7")
    assert code == 0, err
    assert [line for line in out.splitlines() if "a recipe" in line] == [
        "round 1, to 1 seed a recipe, then a look",
        "the sweep has ended undecided after 2 seeds a recipe: 4 further private cells would pass"
        " privacy.sweep_epsilon=7",
    ]
    with (tmp_path / "grid" / "table.csv").open() as file:
        assert [(row["optimizer.lr"], row["seed"], row["status"]) for row in csv.DictReader(file)] == [
            (rate, seed, "completed") for seed in "01" for rate in ("0.1", "0.2")
        ]
    (data,) = json.loads((tmp_path / "grid" / "privacy.json").read_text())["data"]
    assert (data["publish_all"]["epsilon"], data["publish_all"]["accountant"]) == (7, "rdp filter")
