"""The grids that the README names, from the command line to the table."""

import contextlib
import csv
import errno
import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from runner.commands.train import main
from runner.config.schema import TrackerConfig
from runner.internals.wandb_file import read_wandb_file
from runner.records.metrics import read_metrics
from runner.records.wandb_sink import from_row
from tests.report.sweep_folders import write_sweep

SHORT = ("trainer.steps=3", "data.limit=64", "tracker=none", "hardware.threads=1", "hydra.sweep.dir=grid")


@pytest.fixture
def command(tmp_path, capsys):
    """command(...) runs main in an empty folder, where it must end well."""

    def command(*arguments):
        with contextlib.chdir(tmp_path):
            code = main(list(arguments))
        assert code == 0, capsys.readouterr().err

    return command


@pytest.mark.parametrize(
    ("grid", "columns", "cells"),
    [
        (["trainer=mixed_precision", "precision.amp_dtype=float16,bfloat16"], {"precision.amp_dtype"}, 2),
        (["trainer=dp", "privacy.noise_multiplier=0.8,1.1"], {"privacy.noise_multiplier"}, 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_grid(command, tmp_path, grid, columns, cells):
    command("--multirun", *grid, *SHORT)
    with (tmp_path / "grid" / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == cells
    assert columns <= rows[0].keys()
    assert {row["status"] for row in rows} == {"completed"}
    assert all(0 <= float(row["test_accuracy"]) <= 1 for row in rows)
    assert not (tmp_path / "grid" / "same_update.json").exists(), "no two of them claim to be one computation"
    if grid[0] == "trainer=dp":
        epsilons = [float(row["epsilon"]) for row in rows]
        assert epsilons[0] > epsilons[1] > 0, "more noise must cost less"


def test_a_file_in_sweeps_that_lists_values_is_a_grid(command, tmp_path):
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "mine.yaml").write_text("hydra:\n  sweeper:\n    params:\n      seed: 3,4\n")
    command("sweep=mine", *SHORT)
    with (tmp_path / "grid" / "table.csv").open() as file:
        assert [row["seed"] for row in csv.DictReader(file)] == ["3", "4"]


def test_a_question_in_sweeps_needs_no_flag(runner, tmp_path):
    done = runner("sweep=precision", "precision=fp32,bf16", "seeds=1", *SHORT, "trainer.log_every=1", "tracker=wandb")
    assert done.returncode == 0, done.stderr
    with (tmp_path / "grid" / "table.csv").open() as file:
        assert [row["precision"] for row in csv.DictReader(file)] == ["fp32", "bf16"]
    identities = {_equals_its_files(tmp_path / "grid" / cell) for cell in "01"}
    assert len(identities) == 2, "a tracked run a cell"
    _shows_the_report(tmp_path / "grid")
    *_, verdict, report = done.stdout.splitlines()
    assert verdict.startswith("verdict: One run a recipe: test accuracy ")
    assert report == f"report: {tmp_path / 'grid' / 'report.html'}"


def _equals_its_files(cell):
    """What W&B kept offline of a cell is what the cell's own files hold; returns W&B's identity of the run."""
    (file,) = cell.glob("wandb/offline-run-*/*.wandb")
    tracked = read_wandb_file(file)
    records = read_metrics(cell / "metrics.jsonl")
    assert [record["step"] for record in records if record["kind"] == "train"] == [1, 2, 3]
    assert [from_row(row) for row in tracked.history] == records
    assert tracked.config == OmegaConf.to_container(OmegaConf.load(cell / ".hydra" / "config.yaml"), resolve=True)
    run = json.loads((cell / "run.json").read_text())
    expected = {**run["metrics"], **run["throughput"], **run["memory"], "seconds": run["seconds"]}
    assert {name: tracked.summary[name] for name in expected} == expected
    assert (tracked.group, tracked.job_type, tracked.exit_code) == ("grid", "train", 0)
    return tracked.run_id


def _shows_the_report(folder):
    """The report is a run in the same group: tables, pictures, page and verdict."""
    (file,) = folder.glob("wandb/offline-run-*/*.wandb")
    tracked = read_wandb_file(file)
    assert (tracked.name, tracked.group, tracked.job_type) == ("report of grid", "grid", "report")
    assert tracked.summary["verdict"].startswith("One run a recipe: test accuracy ")
    (row,) = tracked.history
    files = {
        name.removesuffix("/path"): file.parent / "files" / place
        for name, place in row.items()
        if name.endswith("/path")
    }
    assert files.keys() >= {"report/cells", "report/recipes", "report/page", "report/curves"}
    assert files["report/page"].read_bytes() == (folder / "report.html").read_bytes()
    assert files["report/curves"].read_bytes() == (folder / "plots" / "curves.png").read_bytes()
    shown = json.loads(files["report/cells"].read_text())
    with (folder / "table.csv").open() as table:
        expected = [float(line["test_accuracy"]) for line in csv.DictReader(table)]
    assert [line[shown["columns"].index("test_accuracy")] for line in shown["data"]] == expected


def test_a_report_that_fails_is_told_and_harms_nothing(tmp_path, capsys):
    from runner.api.start_sweep import _write_report

    write_sweep(tmp_path, [("seed=0", 0.9)])
    (tmp_path / "privacy.json").write_text("no JSON")
    told = _write_report(tmp_path, TrackerConfig(), print, check=True)
    assert capsys.readouterr() == ("", "")
    assert told.startswith("no report: privacy.json: not a record of what was spent (")
    assert told.endswith(f"(see {tmp_path / 'report_failure.log'})")
    assert "\n" not in told
    assert "Traceback" in (tmp_path / "report_failure.log").read_text()


def test_a_disk_that_is_full_at_the_end_leaves_the_metrics_and_is_no_success(tmp_path, capsys, monkeypatch):
    """What the cells measured is there; the report is not, nor a log of why."""

    def full(path, *_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("runner.report.write.write_text", full)
    monkeypatch.setattr(Path, "write_text", full)
    with contextlib.chdir(tmp_path):
        code = main(["--multirun", *SHORT, "model=linear", "seed=0,1"])
    out, err = capsys.readouterr()
    assert code == 1
    assert err.endswith("/grid/report.html: cannot be written (No space left on device)\n")
    assert "Traceback" not in out + err
    with (tmp_path / "grid" / "table.csv").open() as file:
        assert all(row["test_accuracy"] for row in csv.DictReader(file))


@pytest.mark.parametrize(("arguments", "key", "folder"), [
    (["hydra.run.dir=one"], "hydra.run.dir", "one"),
    (["--multirun", "hydra.sweep.dir=many", "seed=0,1"], "hydra.sweep.dir", "many"),
])  # fmt: skip
def test_a_disk_that_is_full_at_the_start_is_told_with_the_folder(
    tmp_path, capsys, monkeypatch, arguments, key, folder
):
    """The system's own error names none."""

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("hydra.core.utils._save_config", full)
    monkeypatch.setattr("runner.sweeping.grid.GridSweeper.sweep", full)
    with contextlib.chdir(tmp_path):
        code = main([*arguments, "model=linear", "tracker=none"])
    assert code == 2
    told = f"error: {key}: got {tmp_path / folder}, expected a folder that can be written (No space left on device)\n"
    assert capsys.readouterr().err.endswith(told)
