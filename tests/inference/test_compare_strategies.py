"""The table of all strategies: numbers for programs, with their units and their spread, and the same for people."""

import csv
import dataclasses

import numpy as np
import pytest

from runner.inference.measure import Speed
from runner.inference.request import InferenceRequest
from runner.inference.results import Results
from runner.inference.scores import score
from runner.inference.strategy_comparison import strategies, tables
from tests.conftest import ROOT


def results(rate, *, right=3, passes=20, **others):
    labels = np.array([0, 1, 0, 1])
    predicted = np.where(np.arange(4) < right, labels, 1 - labels)
    speed = Speed(
        images_per_second=rate, images_per_second_p25=0.9 * rate, images_per_second_p75=1.25 * rate, passes=passes,
        latency_p50_ms=0.123456789, latency_p95_ms=1.5, latency_images=200,
    )  # fmt: skip
    given = {
        "run": "r", "name": "digits", "identity": "0", "step": 1, "inference": "standard", "dtype": "float32",
        "processes": 1, "threads": 2, "details": {}, "images": 4, "images_from": "test", "skipped": (), "loss": 0.25,
        "scores": score(labels, predicted, np.full(4, 0.8), classes=("a", "b")), "run_test_accuracy": None,
        "speed": speed, "model_bytes": 4000, "peak_bytes": 1, "privacy": None, "notes": (), "environment": {},
        "started": "", "finished": "",
    }  # fmt: skip
    return Results(**given | others)


@pytest.fixture
def compared():
    return tables(
        [
            results(12345.678),
            results(6172.839, right=2, inference="accelerate", processes=2, threads=1, passes=1),
            results(24691.356, inference="quantized", details={"bits": 4}, model_bytes=1000),
        ]
    )


def test_the_file_holds_plain_numbers(compared):
    rows = list(csv.DictReader(compared[0].splitlines()))
    assert [row.pop("inference") for row in rows] == ["standard", "accelerate", "quantized"]
    assert {row.pop("arithmetic") for row in rows} == {"float32"}
    assert [row.pop("bits") for row in rows] == ["", "", "4"]
    first, second, third = ({key: float(value) for key, value in row.items()} for row in rows)
    assert (first["accuracy"], second["accuracy_change"], first["loss"]) == (0.75, -0.25, 0.25)
    assert (first["processes"], first["threads"], second["processes"], second["threads"]) == (1, 2, 2, 1)
    assert first["images_per_second"] == 12345.678
    assert (first["images_per_second_p25"], first["passes"], second["passes"]) == (0.9 * 12345.678, 20, 1)
    assert (second["times_standard"], third["times_standard"]) == (0.5, 2)
    assert (first["latency_p50_ms"], third["model_bytes"], third["size_ratio"]) == (0.123456789, 1000, 0.25)


def test_every_column_is_explained(compared):
    text = (ROOT / "docs" / "inference.md").read_text()
    assert [name for name in compared[0].splitlines()[0].split(",") if f"`{name}`" not in text] == []


def test_people_are_told_threads_and_spread(compared):
    head, _, first, second, third = compared[1].splitlines()
    assert "quartiles" in head
    assert "12,346  11,111-15,432        2 " in first
    assert " 1 pass " in second
    assert "2 x 1" in second
    assert "-25.00" in second
    assert " int4 " in third


def test_processes_that_have_no_device_each_are_left_out_and_told(tmp_path):
    asked = InferenceRequest(run=tmp_path)
    (every, nothing), (fewer, (note,)) = (strategies(asked, most_processes=most) for most in (2, 1))
    assert (len(every), nothing) == (6, [])
    assert [one for one in every if one not in fewer] == [dataclasses.replace(asked, inference="accelerate")]
    assert note == "accelerate is left out: 2 processes need a device each, and there is 1"


def test_images_without_labels_have_no_scores():
    sheet, text = tables([results(10.0, scores=None, loss=None)])
    (row,) = csv.DictReader(sheet.splitlines())
    assert (row["accuracy"], row["accuracy_change"], row["loss"]) == ("", "", "")
    assert "accuracy" not in text


def test_one_inference_tells_them_too():
    assert "12.3k images/s, quartiles 11.1k-15.4k of 20 passes, 2 threads" in str(results(12345.678))
    assert "10 images/s, 1 pass, 2 x 1 thread" in str(results(10.0, passes=1, processes=2, threads=1))
