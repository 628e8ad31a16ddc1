"""The report of a sweep is there, and whole, while its cells run, and takes a small share of the time."""

import copy
import itertools
import os
import re
from types import SimpleNamespace

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict

from runner.search.cell_context import find_context
from runner.sweeping import report_renewal
from runner.sweeping.external_launchers import run_external_cell
from runner.sweeping.report_renewal import LARGEST_SHARE, SECONDS_BETWEEN, ReportRenewal

TINY = ("data=synthetic", "data.num_train=64", "data.image_size=8", "data.batch_size=16", "model=linear",
        "trainer.steps=2", "hardware=cpu", "hardware.threads=1", "tracker=none")  # fmt: skip


@pytest.fixture
def clock(monkeypatch):
    """Seconds of a clock that stands still unless a test moves it."""
    clock = SimpleNamespace(now=1e9)
    monkeypatch.setattr(report_renewal, "time", SimpleNamespace(time=lambda: clock.now, monotonic=lambda: clock.now))
    return clock


@pytest.fixture
def at_once(monkeypatch):
    """A report is due whenever a cell ends."""
    monkeypatch.setattr(report_renewal, "SECONDS_BETWEEN", 0)
    monkeypatch.setattr(report_renewal, "LARGEST_SHARE", 1e9)


def writing(clock, page, *, seconds):
    """What takes ``seconds`` to write ``page``, and the moments at which it began to."""
    begun = []

    def write(folder):
        assert folder == page.parent
        begun.append(clock.now)
        clock.now += seconds
        page.touch()
        os.utime(page, (clock.now, clock.now))

    return write, begun


@pytest.mark.parametrize("seconds", [0.5, 3])
def test_cells_that_end_every_second_get_a_report_within_its_share_of_the_time(clock, tmp_path, seconds):
    write, begun = writing(clock, tmp_path / "report.html", seconds=seconds)
    renewal, first = ReportRenewal(write, tmp_path / "report.html"), clock.now
    for _ in range(200):
        clock.now += 1
        renewal.cell_ended()
    assert begun[0] == first + SECONDS_BETWEEN
    gaps = [later - earlier - seconds for earlier, later in itertools.pairwise(begun)]
    assert len(gaps) >= 2
    assert all(gap >= SECONDS_BETWEEN and seconds / gap <= LARGEST_SHARE for gap in gaps)


def test_processes_that_run_cells_of_one_sweep_write_as_seldom_together(clock, tmp_path):
    write, begun = writing(clock, tmp_path / "report.html", seconds=1)
    processes = [ReportRenewal(write, tmp_path / "report.html") for _ in range(4)]
    for _ in range(100):
        clock.now += 1
        for renewal in processes:
            renewal.cell_ended()
    assert len(begun) == 3


def test_a_report_that_cannot_be_written_harms_no_cell_and_is_tried_again(clock, tmp_path):
    tried = []

    def fail(folder):
        tried.append(folder)
        raise ValueError("a picture that cannot be drawn")

    renewal = ReportRenewal(fail, tmp_path / "report.html")
    for _ in range(2):
        clock.now += SECONDS_BETWEEN
        renewal.cell_ended()
    assert tried == [tmp_path, tmp_path]


def test_after_each_cell_the_report_says_what_has_ended_and_what_has_not_begun(command, tmp_path, at_once, monkeypatch):
    right, seen = ReportRenewal.cell_ended, []

    def look(renewal):
        right(renewal)
        seen.append([(tmp_path / "grid" / f"report.{ending}").read_text() for ending in ("md", "html")])

    monkeypatch.setattr(ReportRenewal, "cell_ended", look)
    code, _, err = command("--multirun", *TINY, "seed=0,1", "hydra.sweep.dir=grid")
    assert code == 0, err
    (first, page), (second, _) = seen
    assert "**1 of 2 cells has not begun. One run: test accuracy " in first
    assert page.endswith("</html>\n")
    assert re.search(r"\*\*One recipe, 2 runs: test accuracy ", second)


def test_so_does_a_cell_that_another_launcher_runs(composer, tmp_path, at_once):
    written = []
    whole = composer.compose([*TINY, f"hydra.sweep.dir={tmp_path}", "hydra.sweep.subdir=0", "hydra.mode=MULTIRUN"])
    with open_dict(whole.hydra):
        whole.hydra.runtime.output_dir, whole.hydra.job.num = str(tmp_path / "0"), 0
    task = copy.deepcopy(whole)
    with open_dict(task):
        del task["hydra"]
    HydraConfig.instance().set_config(whole)
    try:
        run_external_cell(find_context, written.append, task)
    finally:
        HydraConfig.instance().cfg = None
    assert (tmp_path / "0" / "run.json").exists()
    assert written == [tmp_path]
