"""What terminals of several widths, a dumb one and a log show of a run, compared with screens that were looked at."""

import dataclasses
import io
import time
import types
from pathlib import Path

import pytest

from runner.records.console import make_console
from runner.records.line_wrapping import wrapped
from runner.records.progress import Progress, Waiting
from runner.records.run_file import FinalMetrics, Memory, PrivacySpent, RunRecord, Throughput
from runner.records.terminal_screen import TerminalScreen
from tests.screens import FakeTerminal, compare_with_golden, screen_of

PLAN = (
    "data       photos: 12,940 training images of 224 x 224 x 3, 17 classes: bee, ant, dragonfly, stag beetle, ...",
    "splits     12,940 train, 1,440 val (held out of training), 3,590 test (held out of training)",
    "recipe     resnet18, sgd lr 0.05, cosine, 1,260 steps, seed 0",
    "precision  bfloat16 on AMD EPYC, 2 threads: measured 2.25 times as fast as float32",
    "privacy    ε=3.00, δ=1e-05 (pld): noise multiplier 1.312, C=1, q=0.0049",
    "           add_remove, poisson sampling",
)
NOTE = (
    "the micro-batch of training is 32 from step 17 on, because memory ran out at 64: a smaller data.batch_size is next"
)
AT = Progress(
    step=20,
    steps=1260,
    epoch=1,
    epochs=60,
    lr=0.05,
    precision="bf16",
    waiting=Waiting("first step", since=0.0),
)
LATER = dataclasses.replace(
    AT,
    step=641,
    epoch=31,
    loss=0.41234,
    accuracy=0.912,
    val_loss=0.3987,
    val_accuracy=0.9312,
    samples_per_second=12345.6,
    seconds_left=4210.0,
    epsilon=1.2,
    delta=1e-5,
    waiting=None,
)
SPENT = PrivacySpent(
    epsilon=2.9901,
    delta=1e-5,
    noise_multiplier=1.312,
    max_grad_norm=1.0,
    sample_rate=0.0049,
    steps=1260,
    accountant="pld",
    adjacency="add_remove",
)


@pytest.fixture
def stopped_clock(monkeypatch):
    """Nothing takes time, and only the first frame is drawn."""
    monkeypatch.setattr("runner.records.progress.time", types.SimpleNamespace(monotonic=lambda: 75.0))
    monkeypatch.setattr("runner.records.terminal_screen._FRAME_SECONDS", 1000)


def show(look):
    """A run from its first moment to its last; ``look`` is called whenever something stands on the screen."""
    console = make_console(True)
    console.wait("loading data")
    look("loading data")
    console.start("photos-resnet18-dp-bfloat16-s0", PLAN)
    console.train(lambda: AT)
    look("the first step")
    console.train(lambda: LATER)
    look("training")
    console.epoch(LATER)
    console.note(NOTE)
    console.train(lambda: dataclasses.replace(LATER, waiting=Waiting("evaluating", since=72.0)))
    look("evaluating")
    record = RunRecord(name="photos-resnet18-dp-bfloat16-s0", status="running").end(
        "completed",
        metrics=FinalMetrics(test_loss=0.41, test_accuracy=0.925, val_loss=0.39, val_accuracy=0.9312, train_loss=0.4),
        throughput=Throughput(samples_per_second=12345.6),
        memory=Memory(peak_bytes=2**30),
        privacy=SPENT,
    )
    console.finish(record, Path("outputs/2026-11-30/photos-resnet18-dp-bfloat16-s0"))
    look("the end")


@pytest.mark.parametrize("columns", [60, 80, 120, 200])
def test_a_run_on_a_terminal(columns, monkeypatch, stopped_clock):
    terminal = FakeTerminal(monkeypatch, columns)
    shown = []
    show(lambda moment: shown.extend([f"--- {moment}", *terminal.screen()]))
    compare_with_golden(f"run_{columns}", shown)
    assert words_of(shown) >= {*NOTE.split(), *" ".join(PLAN).split()}, "no word is broken"


def test_a_run_on_a_dumb_terminal(monkeypatch, stopped_clock):
    terminal = FakeTerminal(monkeypatch, 80, term="dumb")
    show(lambda moment: None)
    assert "\x1b" not in terminal.getvalue()
    assert words_of(terminal.screen()) >= {*NOTE.split(), *" ".join(PLAN).split()}, "no word is broken"
    compare_with_golden("run_dumb_80", terminal.screen())


def test_a_run_without_a_terminal(monkeypatch, stopped_clock):
    log = io.StringIO()
    monkeypatch.setattr("sys.stderr", log)
    monkeypatch.setattr("sys.stdout", log)
    show(lambda moment: None)
    compare_with_golden("run_log", log.getvalue().splitlines())


def words_of(lines):
    return {word for line in lines for word in line.split()}


def test_a_word_that_a_terminal_breaks_is_seen():
    """A negative control: what is not wrapped is broken by the terminal itself."""
    assert not words_of(screen_of(NOTE, 60)) >= set(NOTE.split())
    assert words_of(screen_of("\n".join(wrapped(NOTE, 60)), 60)) >= set(NOTE.split())


def test_lines_are_wrapped_between_words_and_below_their_text():
    assert wrapped("  name   one two three four five six", 30) == ["  name   one two three four", "         five six"]
    assert wrapped("  name   one two three four five six", 28)[1] == "five six", "too narrow to indent"
    assert wrapped("error: see /a/path/that/is/longer/than/the/line now", 20) == [
        "error: see",
        "/a/path/that/is/longer/than/the/line",
        "now",
    ]
    assert wrapped("short\n\nlines", 20) == ["short", "", "lines"]
    assert wrapped("字 " * 12, 24) == ["字 字 字 字 字 字 字 字", "字 字 字 字"], "two columns a letter"


def test_the_line_moves_while_the_process_is_busy(monkeypatch):
    monkeypatch.setattr("runner.records.terminal_screen._FRAME_SECONDS", 0.01)
    terminal = FakeTerminal(monkeypatch, 80)
    screen, frames = TerminalScreen(), []
    screen.animate(lambda: frames.append(0) or f"frame {len(frames)}")
    deadline = time.monotonic() + 5
    while len(frames) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(frames) >= 4
    screen.close()
    ended = len(frames)
    assert "frame" not in "".join(terminal.screen())
    time.sleep(0.05)
    assert len(frames) == ended
