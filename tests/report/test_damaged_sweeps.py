"""Reports of folders that are damaged, half copied, or hold other things besides."""

import dataclasses
import json
import shutil

import pytest

from runner.commands.report import main
from runner.config.schema import ComparisonConfig
from runner.records.run_file import read_run, write_run
from runner.records.sweep_cells import write_cells
from runner.report.write import write_report
from tests.report.sweep_folders import write_cell, write_sweep


def test_folders_without_a_sweep(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for folder in ("empty", "missing"):
        assert main([str(tmp_path / folder)]) == 2
        assert capsys.readouterr().err.startswith("error: DIR: got ")
    assert not list((tmp_path / "empty").iterdir())


def test_damage_ends_in_one_line(tmp_path, capsys):
    write_sweep(tmp_path, [("seed=0", 0.9), ("seed=1", 0.8)])
    (tmp_path / "0" / "metrics.jsonl").write_text("no JSON\n")
    assert main([str(tmp_path)]) == 0, "the figures of a cell whose curve is damaged still stand"
    (tmp_path / "privacy.json").write_text("[]")
    assert main([str(tmp_path)]) == 1
    assert (
        capsys.readouterr().err
        == "error: privacy.json: not a record of what was spent ('list' object has no attribute 'get')\n"
    )


@pytest.mark.parametrize("file", ["config.yaml", "overrides.yaml"])
@pytest.mark.parametrize("content", [b"x: [", b"\xff\xfe\x00", b"only words"])
def test_a_cell_whose_request_is_damaged_is_listed_and_compared_with_nothing(tmp_path, capsys, file, content):
    write_sweep(tmp_path, [("seed=0", 0.9), ("seed=1", 0.8), ("seed=2", 0.7)])
    (tmp_path / "0" / ".hydra" / file).write_bytes(content)
    assert main([str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("verdict: 1 cell left out, because what was asked is unknown. One recipe, 2 runs:")
    assert not err
    text = (tmp_path / "report.md").read_text()
    listed = text.partition("## Compared with nothing")[2]
    assert listed.lstrip().startswith("- 0: completed, what was asked is unknown: ")
    assert file in listed.splitlines()[2]


HALF = [("optimizer.lr=0.1 seed=0", 0.9), ("optimizer.lr=0.1 seed=1", 0.8), ("optimizer.lr=0.2 seed=0", 0.7)]


def test_a_half_copied_folder_has_no_recipe_without_a_name(tmp_path, monkeypatch):
    write_sweep(tmp_path, HALF)
    shutil.rmtree(tmp_path / "2" / ".hydra")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "pictures").mkdir()
    report = write_report(tmp_path)
    assert "lr=" not in report.verdict
    assert "left out" in report.verdict
    # negative control: what is unknown taken for a recipe
    monkeypatch.setattr("runner.report.cells._checked", lambda cell, unknown: (cell, False))
    write_report(tmp_path)
    assert "lr=-" in (tmp_path / "report.md").read_text()


def test_a_folder_of_which_nothing_is_known_is_no_sweep(tmp_path, capsys):
    write_sweep(tmp_path, HALF)
    for cell in "012":
        shutil.rmtree(tmp_path / cell / ".hydra")
    assert main([str(tmp_path)]) == 2
    assert "unknown of each of its 3 cells" in capsys.readouterr().err


def test_runs_that_are_no_cells_are_named_and_left_out(tmp_path):
    write_sweep(tmp_path, HALF)
    write_cell(tmp_path / "elsewhere" / "run", "optimizer.lr=0.3", 0.1)
    before = write_report(tmp_path)
    assert "lr=0.3" in (tmp_path / "report.md").read_text(), "as of a version that did not say which are its cells"
    write_cells(tmp_path, {"0": ["optimizer.lr=0.1"], "1": ["optimizer.lr=0.1"]})
    after = write_report(tmp_path)
    assert after.verdict != before.verdict
    text = (tmp_path / "report.md").read_text()
    assert "Not part of this sweep, though they lie in its folder: elsewhere/run, 2" in text
    assert "lr=0.2" not in text


def test_cells_of_other_environments_are_told_and_both_are_kept(tmp_path):
    write_sweep(tmp_path, HALF)
    run = read_run(tmp_path / "1")
    old = {**run.environment, "packages": {"torch": "2.14.0"}, "python": "3.10.1"}
    write_run(tmp_path / "1", dataclasses.replace(run, earlier_environments=(old,)))
    write_report(tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "elsewhere, python 3.11.7 -\\> 3.10.1, torch 2.15.0 -\\> 2.14.0: cells 1" in text
    assert "Taken up again on another machine or under other versions: cells 1." in text


def test_a_finished_cell_whose_figure_was_not_finite_is_listed_and_compared_with_nothing(tmp_path):
    write_sweep(tmp_path, [(f"precision={name} seed={seed}", 0.9) for name in ("fp32", "fp16") for seed in (0, 1)])
    record = json.loads((tmp_path / "3" / "run.json").read_text())
    record["metrics"]["test_loss"] = None  # what a record holds for a number that is none
    (tmp_path / "3" / "run.json").write_text(json.dumps(record))
    write_report(tmp_path, ComparisonConfig(metric="test_loss", margin=0.1))
    report = (tmp_path / "report.md").read_text()
    assert "- 3 (fp16): completed without a finite test\\_loss" in report
    assert "| fp16 | 2 of 2 | 0.1000 |" in report
