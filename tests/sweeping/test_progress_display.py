"""What a person sees of a sweep: lines in a log, a table on a terminal."""

import io

import pytest
from hydra._internal.callbacks import Callbacks
from omegaconf import OmegaConf

from runner.errors import ExitCode, RequestError
from runner.execution.attempt import Attempt
from runner.records.metrics import MetricsWriter
from runner.records.run_file import FinalMetrics, RunRecord, write_run
from runner.search.cell_context import find_context
from runner.sweeping.cell import Cell
from runner.sweeping.cell_progress import CellProgressReader
from runner.sweeping.progress_display import make_display

PLAN = {"semantic": {"steps": 100, "steps_per_epoch": 10.0, "monitor": "val_accuracy"}}
DONE = Attempt(exit_code=ExitCode.DONE)
FAILED = Attempt(exit_code=ExitCode.FAILED, error="no memory")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def cell(tmp_path, configure):
    def cell(number):
        folder = tmp_path / str(number)
        folder.mkdir()
        composed = OmegaConf.create(
            {"hydra": {"runtime": {"output_dir": str(folder)}, "sweep": {"dir": str(tmp_path)}}}
        )
        name = f"optimizer.lr=0.{number}"
        return Cell(
            number=number,
            name=name,
            config=configure(),
            composed=composed,
            callbacks=Callbacks(),
            find_context=find_context,
        )

    return cell


def end(cell, accuracy, **more):
    record = RunRecord(name="r", status="running", plan=PLAN, **more)
    metrics = FinalMetrics(val_accuracy=accuracy, test_accuracy=accuracy)
    write_run(cell.folder, record.end("completed", metrics=metrics))


def advance(cell, epoch, accuracy):
    if not (cell.folder / "run.json").exists():
        write_run(cell.folder, RunRecord(name="r", status="running", plan=PLAN))
    writer = MetricsWriter(cell.folder / "metrics.jsonl")
    writer.write("train", step=10 * epoch, epoch=float(epoch), loss=1.0, accuracy=0.5)
    writer.write("val", step=10 * epoch, epoch=float(epoch), loss=1.0, accuracy=accuracy)
    writer.close()


def test_a_cell_is_followed_by_its_files(cell):
    one = cell(1)
    watch = CellProgressReader(one.folder)
    assert watch.refresh().epoch is None
    advance(one, 3, 0.8)
    at = watch.refresh()
    assert (at.epoch, at.epochs, at.val_accuracy, at.seconds_left) == (3, 10, 0.8, None)
    advance(one, 5, 0.9)
    with (one.folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 60, "epo')
    at = watch.refresh()
    assert (at.epoch, at.val_accuracy) == (5, 0.9), "a line that is being written is no record"
    assert at.seconds_left > 0


def test_a_resumed_cell_is_not_as_fast_as_what_it_found(cell):
    one = cell(1)
    advance(one, 9, 0.8)
    watch = CellProgressReader(one.folder)
    assert watch.refresh().seconds_left is None


def test_a_log_has_a_line_for_each_start_and_end(cell, capsys):
    display = make_display(3)
    one, two, three = cell(0), cell(1), cell(2)
    display.begin(one)
    end(one, 0.975, notes=("float16 falls back to float32",))
    display.refresh()
    display.end(one, DONE)
    display.begin(two)
    refusal = RequestError("privacy.sweep_epsilon", 3, "2")
    display.end(two, Attempt(exit_code=ExitCode.WRONG_REQUEST, error=str(refusal), refusal=refusal))
    display.skip(three, FAILED)
    display.close()
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines() == [
        "3 cells, numbered from 0 like their folders",
        "[0] optimizer.lr=0.0",
        "[0] warning: float16 falls back to float32",
        "[0] completed, test acc 97.50%, 0:00 (1 of 3 done)",
        "[1] optimizer.lr=0.1",
        "[1] refused: privacy.sweep_epsilon: got 3, expected 2 (2 of 3 done)",
        "[2] optimizer.lr=0.2: failed before: no memory (retry_failed=true runs it again)",
    ]


def test_a_terminal_has_a_table_that_renews_itself(cell, monkeypatch):
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("COLUMNS", "90")
    monkeypatch.setenv("TERM", "xterm")
    display = make_display(5)
    cells = [cell(number) for number in range(4)]
    display.skip(cells[0], DONE)
    for each in cells[1:]:
        display.begin(each)
    end(cells[1], 0.91)
    display.end(cells[1], DONE)
    display.end(cells[2], FAILED)
    advance(cells[3], 4, 0.8765)
    display.refresh()
    text = screen.getvalue()
    last = text[text.rindex("cells:") :]
    assert "cells: 1 running, 2 done, 1 failed, 1 waiting; 0:0" in last
    assert "best so far: 91.00% in cell 1 (optimizer.lr=0.1)" in last
    assert "4/10" in last
    assert "87.65%" in last
    assert "cell 2 (optimizer.lr=0.2): no memory" in text
    display.close()
    display.close()


def test_a_search_does_not_know_how_many_cells_there_will_be(cell, capsys):
    display = make_display(None)
    display.begin(cell(4))
    assert capsys.readouterr().out == "[4] optimizer.lr=0.4\n"
