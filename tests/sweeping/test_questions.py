"""Every question in sweeps/ that is a grid, asked and answered in a few steps a cell."""

import contextlib
import csv
import json
import re

import pytest

from runner.commands.train import main
from runner.config.store import shipped

SHORT = ("trainer.steps=2", "data.limit=64", "tracker=none", "hardware=cpu", "hardware.threads=1", "hydra.sweep.dir=s")
PRIVATE = ("data.batch_size=16", "trainer.accumulation_steps=1", "trainer.test_checkpoint=last")

# name -> what else shortens it, the columns that its cells differ in, and their values
QUESTIONS = {
    "precision": (("seeds=1",), ("precision",), [("fp32",), ("fp16",), ("bf16",)]),
    "batch_accumulation": (
        (),
        ("data.batch_size", "trainer.accumulation_steps"),
        [(batch, steps) for batch in ("16", "32", "64") for steps in ("1", "2", "4")],
    ),
    "noise": (PRIVATE, ("privacy.noise_multiplier",), [("5",), ("10",), ("20",), ("40",)]),
    "privacy_cost": (
        PRIVATE,
        ("privacy.epsilon", "trainer"),
        [("1", ""), ("3", ""), ("8", ""), ("null", "standard")],
    ),
    "trainers": ((), ("trainer",), [("standard",), ("mixed_precision",), ("accelerate",), ("dp",)]),
}


def test_every_grid_that_is_shipped_is_asked():
    # searches, named for their sampler's library, are asked elsewhere
    grids = {path.stem for path in shipped("sweeps").glob("*.yaml") if not path.stem.startswith("optuna_")}
    assert grids == QUESTIONS.keys()


# cells of one computation, by name: 16 x 2 and 32 x 1 are one batch; standard and accelerate are one recipe
SAME = {"batch_accumulation": ["1 3", "2 4", "2 6", "5 7"], "trainers": ["0 2"]}


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_is_answered(name, tmp_path, capsys):
    more, columns, cells = QUESTIONS[name]
    with contextlib.chdir(tmp_path):
        code = main([f"sweep={name}", *SHORT, *more])
    out, err = capsys.readouterr()
    assert code == 0, err
    with (tmp_path / "s" / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [tuple(row[column] for column in columns) for row in rows] == cells
    assert {row["status"] for row in rows} == {"completed"}
    assert all(0 <= float(row["test_accuracy"]) <= 1 for row in rows)
    assert re.search(rf"^\[{len(cells) - 1}\] completed, .* \({len(cells)} of {len(cells)} done\)$", out, re.M)
    checked = tmp_path / "s" / "same_update.json"
    pairs = json.loads(checked.read_text()) if checked.exists() else []
    assert [" ".join(pair["cells"]) for pair in pairs if pair["equal"]] == SAME.get(name, [])
    if name == "noise":
        epsilons = [float(row["epsilon"]) for row in rows]
        assert epsilons == sorted(epsilons, reverse=True), "more noise costs less"
    if name == "privacy_cost":
        assert [bool(row["epsilon"]) for row in rows] == [True, True, True, False]
