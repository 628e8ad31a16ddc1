"""A model that answers every test image alike is found out, in its record and in the report."""

import numpy as np
import torch

from runner.records.predictions import Predictions
from runner.records.run_file import read_run
from runner.report.cells import read_sweep
from runner.report.findings import find
from runner.training import loop
from runner.training.class_balance import ClassBalance
from tests.report.sweep_folders import write_sweep

RECIPE = ("data.limit=64", "data.batch_size=16", "model=linear", "trainer.epochs=1", "hardware=cpu",
          "hardware.threads=1")  # fmt: skip


def test_a_run_says_that_it_answers_every_image_alike(train, monkeypatch):
    evaluate = loop.evaluate

    def of_one_mind(parts, *images, **how):
        bias = [parameter for parameter in parts.model.parameters() if parameter.ndim == 1][-1]
        with torch.no_grad():
            bias[3] = 1e4
        return evaluate(parts, *images, **how)

    monkeypatch.setattr(loop, "evaluate", of_one_mind)
    record = read_run(train(*RECIPE))
    assert record.metrics.test_most_predicted == 1.0
    assert 0.1 < record.metrics.test_majority < 0.2
    assert "every test image got the same answer" in " ".join(record.notes)


def test_an_ordinary_run_has_the_shares_and_says_nothing(train):
    record = read_run(train(*RECIPE))
    assert 0.0 < record.metrics.test_most_predicted < 1.0
    assert 0.1 < record.metrics.test_majority < 0.2
    assert "same answer" not in " ".join(record.notes)


def test_one_class_alone_is_no_reason_to_warn():
    alike = np.zeros(7, int)
    assert not ClassBalance.of(Predictions(labels=alike, answers=alike, images="")).notes()
    assert ClassBalance.of(Predictions(labels=alike + (np.arange(7) > 3), answers=alike, images="")).notes()


def test_a_report_says_that_nothing_was_learnt(tmp_path):
    cells = [
        (f"precision={name} seed={seed}", 0.55, {"most_predicted": 1.0, "majority": 0.55})
        for name in ("fp32", "bf16")
        for seed in range(5)
    ]
    verdict = find(read_sweep(write_sweep(tmp_path, cells))).verdict
    assert "Every test image got the same answer from fp32 in 5 of 5 runs, bf16 in 5 of 5 runs" in verdict
    assert "The largest class is 55.00% of the test images." in verdict
