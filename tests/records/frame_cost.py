"""Processor time of one frame of a run's progress line, on terminals of several widths and in a notebook.

``python -m tests.records.frame_cost``; the figures go to docs/results.  A frame is drawn five times a second (four in a
notebook), by a thread that holds the interpreter meanwhile.
"""

import fcntl
import os
import pty
import struct
import sys
import termios
import threading
import time

from runner.records.notebook_screen import NotebookScreen
from runner.records.progress import Progress
from runner.records.run_renderables import progress_line
from runner.records.terminal_screen import TerminalScreen

FRAMES, TURNS = 500, 5


def progress(step):
    return Progress(
        step=step, steps=FRAMES, epoch=1, epochs=60, loss=1 / (step + 1), accuracy=0.912, val_loss=0.3,
        val_accuracy=0.93, lr=0.05, precision="bf16", samples_per_second=12345.6, seconds_left=4210.0, epsilon=1.2,
        delta=1e-5,
    )  # fmt: skip


def seconds_a_frame(show, width):
    """Of the least of some turns: what else the machine does adds to a turn, and nothing takes away."""
    found = []
    for _ in range(TURNS):
        begun = time.thread_time()
        for step in range(FRAMES):
            show(progress_line(progress(step), width))
        found.append(time.thread_time() - begun)
    return min(found) / FRAMES


def on_terminal(columns):
    """Seconds of a frame that a pseudo-terminal of ``columns`` receives."""
    master, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    threading.Thread(target=_drain, args=(master,), daemon=True).start()
    before = sys.stderr
    with os.fdopen(terminal, "w") as sys.stderr:
        try:
            screen = TerminalScreen()
            return seconds_a_frame(screen.draw, screen.width)
        finally:
            screen.close()
            sys.stderr = before


def _drain(handle):
    while True:
        try:
            os.read(handle, 1 << 16)
        except OSError:  # the other end is closed
            return


def in_notebook():
    """Seconds of a frame as a notebook's text and HTML; sending it is not counted."""
    screen = NotebookScreen()

    def show(line):
        screen._drawn = line
        screen._contents()

    return seconds_a_frame(show, screen.width)


def main():
    """Print milliseconds a frame."""
    os.environ.pop("COLUMNS", None)
    for columns in (80, 120, 200):
        print(f"terminal of {columns} columns: {1e3 * on_terminal(columns):.2f} ms of processor time a frame")
    print(f"notebook: {1e3 * in_notebook():.2f} ms of processor time a frame")


if __name__ == "__main__":
    main()
