"""The report of a search: its trials, its winner, and how that is confirmed."""

import math
import random
import re
import shlex

from omegaconf import OmegaConf

from runner.config.compose import Composer
from runner.records.sweep_table import read_cells
from runner.records.sweep_table_text import render_table
from runner.report.cells import CellResult, SweepResults
from runner.report.confirmation import confirm_command
from runner.report.search_importance import importances_of
from runner.report.statistics import mean_interval
from runner.report.write import write_report
from tests.report.sweep_folders import rate_of, write_cell, write_search, write_sweep, write_trials


def test_a_search(tmp_path):
    values = [0.5 + number / 50 for number in range(21)] + [0.9]
    write_search(tmp_path, values, states={3: "PRUNED", 9: "FAIL"})
    report = write_report(tmp_path)
    assert report.verdict == (
        "Best of 20 completed trials: optimizer.lr=0.01 optimizer=sgd, with validation accuracy 90.00 % (trial 20;"
        " selected, so optimistic). 2 trials tie at this value (20, 21): the search does not tell them apart."
        " Trial 20, on images that selected nothing: test accuracy 14.30 %, 10 s, 500 MiB; the 22 runs took 4 min in"
        " all."
    )
    text = (tmp_path / "report.md").read_text()
    assert text.startswith("# Which learning rate and optimizer?\n")
    assert "22 trials: 20 completed, 1 pruned, 1 failed." in text
    rows = [line.split(" | ") for line in text.partition("| trial |")[2].splitlines()[2:24]]
    # by value, the best first, every parameter in as many digits as count, no test figure but the winner's
    assert [row[0].removeprefix("| ") for row in rows] == [
        *("20", "21"), *(str(n) for n in range(19, -1, -1) if n not in (3, 9)), "3", "9",
    ]  # fmt: skip
    assert rows[2][1:4] == ["88.00 %", "0.00794", "adam"]
    assert rows[0][-1] == "the best: selected, so optimistic |"
    assert text.count("14.3") == 1
    assert "12.5" not in text
    command = text.partition("fresh seeds")[2].partition("```\n")[2].partition("\n")[0]
    assert command == (
        "python -m runner --multirun optimizer.lr=0.01 optimizer=sgd trainer.epochs=3 seed=1,2,3,4,5"
    )  # the search ran on seed 0
    assert {path.stem for path in (tmp_path / "plots").iterdir()} == {"history", "importances", "curves"}
    assert "## Comparison" not in text
    assert "## Recipes" not in text


def test_a_winner_on_fresh_seeds_says_what_it_came_to_beside_the_value_that_selected_it(tmp_path):
    write_search(tmp_path, [0.5, 0.9, 0.8])
    for seed, (val, test) in enumerate([(0.86, 0.84), (0.88, 0.85), (0.87, 0.86), (0.85, 0.83), (0.89, 0.87)], start=1):
        write_cell(tmp_path / "confirm" / f"1-seed-{seed}", f"optimizer.lr={rate_of(1)} optimizer=adam seed={seed}",
                   test, val=val)  # fmt: skip
    write_cell(tmp_path / "confirm" / "2-seed-1", "optimizer.lr=1 seed=1", 0.11, val=0.11)  # was the best once
    report = write_report(tmp_path)
    low, high = mean_interval([86, 88, 87, 85, 89], 0.95)
    assert report.verdict.startswith(
        "Best of 3 completed trials: optimizer.lr=0.000126 optimizer=adam, with validation accuracy 90.00 % (trial 1;"
        f" selected, so optimistic; on 5 fresh seeds 87.00 % on average, 95% interval {low:.2f} % to {high:.2f} %). "
    )
    text = (tmp_path / "report.md").read_text()
    assert "On 5 fresh seeds and the test images, neither of which selected anything: test accuracy 85.00 % on" in text
    assert "| 3 | 87.00 % | 86.00 % | completed |" in text
    assert "11.00 %" not in text
    assert "3 trials: 3 completed." in text, "what confirms is no trial"
    assert "hydra.sweeper.confirm" not in text, "it has been done"
    # the terminal shows them apart from the trial that was selected
    shown = render_table(read_cells(tmp_path), width=100)
    assert re.search(r"confirm/1 .* 87\.00% ± 1\.58%", shown)
    write_cell(tmp_path / "confirm" / "1-seed-6", f"optimizer.lr={rate_of(1)} optimizer=adam seed=6", "failed")
    assert "on 5 fresh seeds (of 6: 1 failed) 87.00 % on average" in write_report(tmp_path).verdict


def test_importances_need_trials_and_a_band(tmp_path):
    write_search(tmp_path, [0.5 + number / 50 for number in range(19)])
    write_report(tmp_path)
    assert "mattered cannot be told from 19 completed trials; 20 are the least" in (tmp_path / "report.md").read_text()
    assert not (tmp_path / "plots" / "importances.png").exists()
    draw = random.Random(4)
    params = [{"lr": str(10 ** draw.uniform(-4, -1)), "wd": str(draw.random())} for _ in range(60)]
    noise = importances_of(params, [draw.random() for _ in params], direction="maximize")
    assert max(noise.of.values()) <= noise.chance
    found = importances_of(params, [-abs(math.log10(float(one["lr"])) + 2) for one in params], direction="maximize")
    assert next(iter(found.of)) == "lr"
    assert found.of["lr"] > found.chance > found.of["wd"]


def test_a_winner_of_a_question_is_confirmed_with_what_the_question_set(tmp_path, monkeypatch):
    # the file's own options and keys: without them the command would be another recipe
    monkeypatch.chdir(tmp_path)
    lines = ["sweep=optuna_dp", "trainer.epochs=3"]
    composed = Composer(caller=tmp_path).compose([*lines, "optimizer.lr=0.5"])
    config = OmegaConf.to_container(composed, resolve=False)
    config.pop("hydra")
    choices = dict(composed.hydra.runtime.choices)
    cell = CellResult(
        tmp_path, "completed", dict(line.split("=") for line in [*lines, "optimizer.lr=0.5"]), None, None, "0"
    )
    vars(cell).update({"config": config, "choices": {g: o for g, o in choices.items() if not g.startswith("hydra/")}})
    command = confirm_command(SweepResults(tmp_path, (cell,)), cell)
    words = shlex.split(command)[4:]
    assert {"trainer=dp", "privacy.sweep_epsilon=15.0", "optimizer.lr=0.5"} <= set(words)
    assert not [word for word in words if word.startswith(("sweep=", "hydra"))]
    assert words[-1] == "seed=1,2,3,4,5"
    again = OmegaConf.to_container(Composer(caller=tmp_path).compose([*words[:-1], "seed=0"]), resolve=False)
    again.pop("hydra")
    assert {**again, "sweep": None} == {**config, "sweep": None}


def test_a_search_with_two_objectives(tmp_path):
    write_sweep(tmp_path, [("optimizer.lr=0.1", 0.9)])
    values, directions = [[0.9, 10], [0.8, 5], [0.7, 6], [0.95, 40]], ("maximize", "minimize")
    write_trials(tmp_path, values, columns=("values_0", "values_1"), directions=directions)
    assert write_report(tmp_path).verdict == "3 of 4 completed trials are beaten by none in all objectives."
    assert "trial 2 " not in (tmp_path / "report.md").read_text()
    assert "optimistic" not in (tmp_path / "report.md").read_text(), "nothing was selected yet"
