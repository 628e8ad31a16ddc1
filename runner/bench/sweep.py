"""A sweep: what the driver costs beside the training of its cells."""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from runner.bench.paired_ratios import paired_difference, paired_ratio
from runner.bench.section import Section
from runner.bench.settings import Settings
from runner.errors import RunError

_CELL = (
    *("data=synthetic", "data.num_train=64", "data.image_size=8", "data.batch_size=16", "model=linear"),
    *("trainer.epochs=40", "trainer.log_every=1", "hardware=cpu", "hardware.threads=1", "tracker=none"),
)


def measure(settings: Settings) -> Iterator[Section]:
    """One section: two sweeps of seeds, the second as the control of the first."""
    cells = 2 * settings.rounds
    names = ("a sweep", "the same again")
    walls, gaps, training = {}, {}, {}
    for name in names:
        folder = Path(settings.work) / name.replace(" ", "-")
        walls[name] = _run(folder, cells, settings.threads)
        times = [_times(folder / str(number)) for number in range(cells)]
        gaps[name] = [after[0] - before[1] for before, after in itertools.pairwise(times)]
        training[name] = sum(end - start for start, end in times)
    zeros = [0.0] * (cells - 1)
    rows = [
        (
            name,
            f"{(walls[name] - training[name]) / cells:.2f} s",
            f"{paired_difference(gaps[name], zeros)} s",
            f"{max(gaps[name]):.2f} s",
            f"{training[name] / cells:.2f} s",
        )
        for name in names
    ]
    floor = paired_ratio(gaps[names[1]], gaps[names[0]])
    yield Section(
        name="sweep",
        title=f"A sweep of {cells} cells",
        about="A linear model on 41 images, so that the driver is all.  The cost a cell is the wall time of the command"
        f" less the training of its cells, over {cells}: with start, check of all cells and report.",
        columns=("sweep", "cost a cell", "between two cells, median", "largest", "training of a cell"),
        rows=tuple(rows),
        samples=(
            *(
                {"section": "sweep", "contender": name, "cell": index, "between_seconds": gap}
                for name in names
                for index, gap in enumerate(gaps[name])
            ),
            *(
                {
                    "section": "sweep",
                    "contender": name,
                    "wall_seconds": walls[name],
                    "training_seconds": training[name],
                    "driver_seconds_a_cell": (walls[name] - training[name]) / cells,
                }
                for name in names
            ),
        ),
        notes=(
            f"Noise floor: the second sweep's times between cells over the first's were {floor}.",
            f"Between two cells lie {statistics.fmean(gaps[names[0]]):.2f} s on average.",
        ),
    )


def _run(folder: Path, cells: int, threads: int) -> float:
    command = [
        sys.executable,
        "-m",
        "runner",
        "--multirun",
        *_CELL,
        f"seed=range({cells})",
        f"hydra.sweep.dir={folder}",
    ]
    began = time.perf_counter()
    ended = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": str(threads)}
    )
    if ended.returncode != 0:
        raise RunError(f"the sweep ended with exit code {ended.returncode}: {ended.stderr.strip()}")
    return time.perf_counter() - began


def _times(cell: Path) -> tuple[float, float]:
    """Start and end of a cell's training, in seconds."""
    run = json.loads((cell / "run.json").read_text(encoding="utf-8"))
    return datetime.fromisoformat(run["started"]).timestamp(), datetime.fromisoformat(run["finished"]).timestamp()
