"""Figures that stand beside an epsilon which does not cover them are named there."""

import json

import pytest

from runner.records.metrics import read_metrics
from runner.records.run_file import read_run

RECIPE = ("data=synthetic", "data.num_train=64", "data.image_size=8", "data.batch_size=16", "model=linear",
          "trainer.steps=4", "trainer.log_every=2")  # fmt: skip
PRIVATE = ("trainer=dp", "privacy.noise_multiplier=1", "privacy.grad_sample=functional")


@pytest.mark.parametrize("validation", ["private", "public"])
def test_every_line_and_the_record_of_a_private_run_name_what_epsilon_does_not_cover(train, validation):
    run_dir = train(*RECIPE, *PRIVATE, f"privacy.validation={validation}", "data.num_val=32")
    uncovered = {"train": {"loss", "accuracy", "samples_per_second", "seconds"}, "test": {"loss", "accuracy"},
                 "val": {"loss", "accuracy"} if validation == "private" else set()}  # fmt: skip
    for record in read_metrics(run_dir / "metrics.jsonl"):
        assert set(record["not_covered_by_epsilon"]) == uncovered[record["kind"]]
        # whatever else a line holds is a name of the contract or covered
        covered = {"step", "epoch", "kind", "not_covered_by_epsilon", "lr", "grad_norm", "epsilon"}
        covered |= {"loss", "accuracy"} if validation == "public" and record["kind"] == "val" else set()
        assert set(record) - uncovered[record["kind"]] <= covered
    run = json.loads((run_dir / "run.json").read_text())
    assert ("metrics.val_loss" in run["not_covered_by_epsilon"]) == (validation == "private")
    for name in ("metrics.train_loss", "metrics.test_accuracy", "zeroed_examples", "out_of_memory", "throughput"):
        assert name in run["not_covered_by_epsilon"]
    for name in run["not_covered_by_epsilon"]:
        group, _, key = name.partition(".")
        assert group in run
        assert not key or key in run[group]
    assert read_run(run_dir).not_covered_by_epsilon == tuple(run["not_covered_by_epsilon"])


def test_an_ordinary_run_says_nothing_of_it(train):
    run_dir = train(*RECIPE)
    assert all("not_covered_by_epsilon" not in record for record in read_metrics(run_dir / "metrics.jsonl"))
    assert read_run(run_dir).not_covered_by_epsilon == ()
