import dataclasses
import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from runner.records.console import PlainConsole, SilentConsole, make_console, result_rows
from runner.records.epoch_lines import EpochLines
from runner.records.progress import Progress, budget_text, duration, epoch_line, progress_figures, rate_text
from runner.records.run_file import FinalMetrics, Memory, PrivacySpent, RunRecord, Throughput

FULL = Progress(
    step=2299,
    steps=2300,
    epoch=100,
    epochs=100,
    loss=12.34567,
    accuracy=0.91234,
    val_loss=10.38,
    val_accuracy=1.0,
    lr=0.0123456,
    precision="bf16",
    samples_per_second=12345.6,
    seconds_left=4210.0,
    epsilon=11.2,
    delta=1e-5,
)
SPENT = PrivacySpent(
    epsilon=2.9901,
    delta=1e-5,
    noise_multiplier=1.3,
    max_grad_norm=1.0,
    sample_rate=0.02,
    steps=1500,
    accountant="pld",
    adjacency="add_remove",
)

SHOW = """
import sys, time
from pathlib import Path
from runner.records.console import make_console
from runner.records.progress import Progress
from runner.records.run_file import FinalMetrics, Memory, RunRecord, Throughput
private = "private" in sys.argv
console = make_console("other-rank" not in sys.argv)
console.wait("loading data")
time.sleep(0.25)
progress = None
console.start("digits-small_cnn", ["first [line]", "second line"])
for step in range(1, 31):
    progress = Progress(
        step=step, steps=30, epoch=98 + (step - 1) // 10, epochs=100, loss=1 / step, accuracy=0.912, val_loss=0.3,
        val_accuracy=0.93, lr=0.0123, precision="bf16", samples_per_second=12345.6, seconds_left=70.0,
        epsilon=1.2 if private else None, delta=1e-5 if private else None,
    )
    if step == 1:
        console.train(lambda: progress)
    time.sleep(0.02)
    if step % 10 == 0:
        console.epoch(progress)
console.note("a [bracketed] warning")
run = RunRecord(name="digits-small_cnn", status="running").end(
    "completed", begun=time.monotonic(), metrics=FinalMetrics(test_accuracy=0.975),
    throughput=Throughput(samples_per_second=12345.6),
    memory=Memory(peak_bytes=2**30),
)
console.finish(run, Path.cwd() / "outputs" / "1")
"""


def on_terminal(*arguments, columns=80, term="xterm-256color"):
    """What a terminal of ``columns`` receives, and its lines after the last redraw of each."""
    master, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-c", SHOW, *arguments],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=environment | {"TERM": term, "PYTHONIOENCODING": "utf-8"},
    )
    os.close(terminal)
    received = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:  # Linux says so when the other end is closed.
            break
        if not piece:
            break
        received += piece
    os.close(master)
    assert process.wait() == 0
    return received.decode().replace("\r\n", "\n")


def visible(text):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_a_terminal_gets_a_line_that_renews_itself():
    received = on_terminal()
    lines = visible(received).replace("\r", "\n").split("\n")
    drawn = [line for line in lines if "━" in line]
    assert 3 <= len(drawn) <= 30  # 0.6 s of steps: five a second, and again after each lasting line.
    bars = [line.split("loss")[1] for line in drawn]
    assert len(set(bars)) >= 3, "it moves though nobody asks it to"
    assert re.fullmatch(r"Epoch 98/100 ━+ loss 1\.000 acc 91\.2% lr 0\.012 \[bf16\] 12\.3k images/s 1:10 *", drawn[0])
    kept = [line.rstrip() for line in lines if line.startswith("Epoch") and "━" not in line]
    assert kept == [
        f"Epoch {epoch}/100: loss {loss:.4f}, acc 91.2%, val loss 0.3000, val acc 93.0%, 12.3k/s"
        for epoch, loss in ((98, 1 / 10), (99, 1 / 20), (100, 1 / 30))
    ]
    assert "warning: a [bracketed] warning" in [line.rstrip() for line in lines]
    assert "  first [line]" in [line.rstrip() for line in lines]
    assert "│ test accuracy │ 97.50%         │" in lines
    assert lines[-2:] == ["Files: outputs/1", ""]
    assert received.rfind("\x1b[?25h") > received.rfind("\x1b[?25l")  # The cursor is shown.


def test_the_cursor_is_not_hidden_while_the_run_goes_on():
    first_bar = on_terminal().split("━")[0]
    assert first_bar.rfind("\x1b[?25h") > first_bar.rfind("\x1b[?25l")


def test_no_line_is_wider_than_the_terminal():
    lines = visible(on_terminal("private", columns=60)).replace("\r", "\n").split("\n")
    assert max(len(line.rstrip()) for line in lines) <= 60
    # A wrapped line would leave its rest on a line of its own.
    starts = ("loading data", "digits", "  first [line]", "  second line", "Epoch", "warning", "│", "╭", "╰", "Files")
    assert all(line.startswith(starts) for line in lines if line.strip())
    assert sum(line.startswith("Epoch") and "━" not in line for line in lines) == 3
    assert all("ε=1.20" in line for line in lines if line.startswith("Epoch"))


def test_other_ranks_are_silent_on_a_terminal():
    assert on_terminal("other-rank") == ""


def test_a_dumb_terminal_gets_plain_lines():
    assert "\x1b" not in on_terminal(term="dumb")


def run_plain(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-c", SHOW, *arguments],
        capture_output=True,
        env=os.environ | environment,
        check=True,
    )


def test_a_log_gets_one_plain_line_an_epoch_and_the_result_stands_apart():
    answer = run_plain("private", PYTHONIOENCODING="utf-8")
    assert answer.stderr.decode().splitlines() == [
        "digits-small_cnn",
        "  first [line]",
        "  second line",
        *(
            f"Epoch {epoch}/100: ε=1.20, δ=1e-05, loss {loss:.4f}, acc 91.2%, val loss 0.3000, val acc 93.0%, "
            "lr 0.0123, [bf16], 12.3k images/s"
            for epoch, loss in ((98, 1 / 10), (99, 1 / 20), (100, 1 / 30))
        ),
        "warning: a [bracketed] warning",
    ]
    assert answer.stdout.decode().splitlines() == [
        "digits-small_cnn: completed",
        "  test accuracy  97.50%",
        "  throughput     12.3k images/s",
        "  peak memory    1,024 MiB",
        "  time           0:00",
        "Files: outputs/1",
    ]


def test_other_ranks_are_silent_in_a_log():
    answer = run_plain("other-rank")
    assert (answer.stdout, answer.stderr) == (b"", b"")


def test_letters_that_an_encoding_lacks_are_spelled_out():
    assert b"Epoch 98/100: epsilon=1.20, delta=1e-05, loss" in run_plain("private", PYTHONIOENCODING="ascii").stderr


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_a_reader_that_goes_away_does_not_stop_the_run(closed):
    reading, writing = os.pipe()
    os.close(reading)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | {closed: writing}
    # Unbuffered streams, which PYTHONUNBUFFERED asks for, would hide what the buffer does at the end.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    answer = subprocess.run([sys.executable, "-c", SHOW], check=False, env=environment, **streams)
    os.close(writing)
    assert answer.returncode == 0


def test_the_console_follows_the_streams(monkeypatch):
    assert isinstance(make_console(False), SilentConsole)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert isinstance(make_console(True), PlainConsole)


def test_lines_fit_and_keep_what_matters():
    needed = "Epoch 100/100: ε=11.20, δ=1e-05, loss 12.3457, val acc 100.0%"
    for width in range(20, 130):
        line = epoch_line(FULL, width)
        assert len(line) <= max(width, len(needed))
        assert line.startswith("Epoch 100/100: ε=11.20, δ=1e-05, loss 12.3457")
        assert "val acc 100.0%" in line.split(", ")
        figures = progress_figures(FULL, width)
        assert len(figures) <= width
        assert figures.startswith("loss 12.346")


def test_wide_lines_hold_everything():
    assert epoch_line(FULL) == (
        "Epoch 100/100: ε=11.20, δ=1e-05, loss 12.3457, acc 91.2%, val loss 10.3800, val acc 100.0%, "
        "lr 0.0123, [bf16], 12.3k images/s"
    )
    assert progress_figures(FULL, 200) == ("loss 12.346 acc 91.2% lr 0.012 [bf16] 12.3k images/s 1:10:10 left ε=11.20")
    assert epoch_line(Progress(step=1, steps=1, epoch=1, epochs=2)) == "Epoch 1/2: "


def test_a_budget_is_never_shown_smaller_than_it_is():
    assert budget_text(2.9901, 2.501e-6) == "ε=3.00, δ=2.51e-06"
    assert budget_text(1.1, 1e-5) == "ε=1.10, δ=1e-05"


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (0.5, "0.5"),
        (873.4, "873"),
        (999.6, "1k"),
        (12345.6, "12.3k"),
        (999_400, "999k"),
        (999_600, "1M"),
        (2_345_678, "2.35M"),
    ],
)
def test_rates(rate, text):
    assert rate_text(rate) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (59.6, "1:00"), (3599, "59:59"), (3661, "1:01:01")])
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_the_result_leaves_out_what_was_not_measured():
    empty = RunRecord(name="r", status="failed", error="it broke")
    assert result_rows(empty) == [("error", "it broke")]
    full = RunRecord(
        name="r",
        status="completed",
        metrics=FinalMetrics(train_loss=0.1, val_loss=0.2, val_accuracy=0.9, test_loss=0.3, test_accuracy=0.91),
        throughput=Throughput(samples_per_second=100.0),
        memory=Memory(peak_bytes=2**31),
        privacy=SPENT,
        skipped_steps=2,
        seconds=61.0,
    )
    assert dict(result_rows(full)) == {
        "test accuracy": "91.00%",
        "test loss": "0.3000",
        "val accuracy": "90.00%",
        "val loss": "0.2000",
        "train loss": "0.1000",
        "privacy": "ε=3.00, δ=1e-05 (pld)",
        "throughput": "100 images/s",
        "peak memory": "2,048 MiB",
        "skipped steps": "2",
        "time": "1:01",
    }


def test_a_failed_run_with_nothing_measured_is_shown(capsys):
    PlainConsole().finish(RunRecord(name="r", status="interrupted"), Path("/elsewhere/1"))
    assert capsys.readouterr().out == "r: interrupted\nFiles: /elsewhere/1\n"


def test_of_very_many_short_epochs_about_one_a_second_is_told_and_the_best_and_the_last():
    ended = iter(epoch / 100 for epoch in range(1, 1001))
    lines = EpochLines(clock=lambda: next(ended))
    epochs = [dataclasses.replace(FULL, epoch=epoch, epochs=1000) for epoch in range(1, 1001)]
    told = [progress.epoch for progress in epochs if lines.is_due(progress, best=progress.epoch in (50, 150))]
    assert told == [*range(1, 101), *range(200, 1001, 100)]
    assert [progress.epoch for progress in lines.rest()] == [150]
    ended = iter([10.1, 10.2])
    assert not any(lines.is_due(progress, best=True) for progress in epochs[:2])
    assert [progress.epoch for progress in lines.rest()] == [2], "the last one is the best one"
    assert lines.rest() == []


def test_epochs_that_can_be_read_are_all_told():
    ended = iter(range(1000))
    lines = EpochLines(clock=lambda: next(ended))
    assert all(lines.is_due(FULL, best=False) for _ in range(1000))
    assert lines.rest() == []


def test_what_was_held_back_comes_before_the_result(capsys):
    console = PlainConsole()
    for epoch in range(1, 1001):
        console.epoch(dataclasses.replace(FULL, epoch=epoch, epochs=1000), best=epoch == 1)
    console.finish(RunRecord(name="r", status="interrupted"), Path("/elsewhere/1"))
    out, err = capsys.readouterr()
    assert err.splitlines()[-1].startswith("Epoch 1000/1000: ")
    assert len(err.splitlines()) < 1000
    assert out.startswith("r: interrupted")


def test_a_full_disk_below_standard_output_is_told():
    code = "import sys; from runner.records.console import put; put(sys.stdout, 'the result'); put(sys.stdout, 'more')"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr == (
        "warning: standard output takes nothing more (No space left on device); the run's files are whole\n"
    )
