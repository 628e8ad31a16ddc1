"""Hundreds of cells in a row: what the driver holds after each, and what it costs beside the cells' training.

``python -m tests.sweeping.soak --cells=200``; the figures go to docs/results.
"""

import argparse
import itertools
import json
import statistics
import tempfile
import time
from datetime import datetime
from pathlib import Path

from runner.sweeping.finish import finish_sweep
from tests.faults.forked_runs import descendants
from tests.sweeping.campaign import start

_KINDS = ("memory of the driver, MiB", "its file descriptors", "its threads", "processes below it",
          "memory of the fork server, MiB")  # fmt: skip


def held(pid):
    """What a driver holds now, one figure for each of ``_KINDS``."""
    process = Path("/proc", str(pid))
    server = next(int(child) for child in (process / "task" / str(pid) / "children").read_text().split())
    return (
        _resident(process),
        len(list((process / "fd").iterdir())),
        len(list((process / "task").iterdir())),
        len(descendants(pid)),
        _resident(Path("/proc", str(server))),
    )


def _resident(process):
    fields = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) / 1024


def soak(folder, cells):
    """Run the sweep; returns what the driver held while each cell trained, and the wall time of the driver."""
    begun = time.monotonic()
    process = start(folder, f"seed=range({cells})")
    lines = []
    for line in process.stdout:
        # between two cells, when nothing of the last one is left and the next one is being composed
        if "] completed" in line:
            lines.append(held(process.pid))
    _, err = process.communicate()
    assert process.returncode == 0, err
    return lines, time.monotonic() - begun


def times(folder, cells):
    """Start and end of the training of each cell, in seconds of the epoch, from the cells' own files."""
    found = []
    for number in range(cells):
        run = json.loads((folder / "grid" / str(number) / "run.json").read_text())
        found.append([datetime.fromisoformat(run[key]).timestamp() for key in ("started", "finished")])
    return found


def main():
    """Run the sweep and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=200)
    cells = parser.parse_args().cells
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines, wall = soak(folder, cells)
        trained = times(folder, cells)
        begun = time.process_time()
        finish_sweep(folder / "grid", check=False)
        report = time.process_time() - begun
    print(f"report of {cells} cells: {report:.2f} s of processor time, with the import of scipy and matplotlib")
    between = [after[0] - before[1] for before, after in itertools.pairwise(trained)]
    training = [finished - started for started, finished in trained]
    print(f"{cells} cells in {wall:.1f} s; {sum(training):.1f} s of it training")
    print(f"from the end of a cell's training to the next one's start: median {statistics.median(between):.2f} s,"
          f" mean {statistics.fmean(between):.2f} s, largest {max(between):.2f} s")  # fmt: skip
    for kind, column in zip(_KINDS, zip(*lines, strict=True), strict=True):
        tenth = max(1, len(column) // 10)
        first, last = column[tenth : 2 * tenth], column[-tenth:]
        print(f"{kind}: {statistics.fmean(first):.1f} in the second tenth, {statistics.fmean(last):.1f} in the last,"
              f" largest {max(column):.1f}")  # fmt: skip


if __name__ == "__main__":
    main()
