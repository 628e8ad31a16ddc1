"""What a tracker in trouble costs: training throughput beside a W&B server that refuses or never answers, in pairs.

``python -m tests.faults.tracker_cost`` alternates runs without a tracker and runs that ask W&B to be online where it
cannot be, in one process, and compares the throughput of each pair and the records of all.
"""

import argparse
import contextlib
import io
import json
import os
import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path

RECIPE = ("model=mlp", "trainer.epochs=600", "trainer.eval_every=50", "hardware=cpu", "hardware.threads=1")
"""Half a minute of training: W&B takes some seconds to start and to give up, which a run of one second would see."""
ONLINE = ("tracker=wandb", "tracker.mode=online")


def run(folder, *overrides):
    """One run: its throughput and its records without the times."""
    from runner.config.compose import Composer
    from runner.config.load import load_config
    from runner.job import run_job
    from runner.records.metrics import read_metrics

    composer = Composer(caller=folder)
    composed = composer.compose([*RECIPE, *overrides])
    folder.mkdir()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        run_job(load_config(composed, composer.option_defaults(composed)), {}, folder, None)
    times = {"samples_per_second", "seconds"}
    records = [
        [(key, value) for key, value in record.items() if key not in times]
        for record in read_metrics(folder / "metrics.jsonl")
    ]
    return json.loads((folder / "run.json").read_text())["throughput"]["samples_per_second"], records


def main():
    """Print the ratio of each kind of trouble, with its spread."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.tracker_cost", description=__doc__)
    parser.add_argument("--pairs", type=int, default=6)
    arguments = parser.parse_args()
    os.environ |= {"WANDB_API_KEY": "0" * 40, "OMP_NUM_THREADS": "1"}
    whole = True
    with socket.socket() as silent, tempfile.TemporaryDirectory() as folder:
        silent.bind(("127.0.0.1", 0))
        silent.listen(100)
        servers = {
            "refuses": "http://127.0.0.1:9",
            "never answers": f"http://127.0.0.1:{silent.getsockname()[1]}",
        }
        os.environ["XDG_CACHE_HOME"] = folder
        numbers = iter(range(1000))

        def once(*overrides):
            return run(Path(folder) / f"run{next(numbers)}", *overrides)

        _, expected = once("tracker=none")
        for name, address in servers.items():
            os.environ["WANDB_BASE_URL"] = address
            ratios, begun = [], time.monotonic()
            for pair in range(arguments.pairs):
                order = (("tracker=none",), ONLINE) if pair % 2 else (ONLINE, ("tracker=none",))
                rates = {}
                for overrides in order:
                    rates[overrides], records = once(*overrides)
                    whole = whole and records == expected
                ratios.append(rates[ONLINE] / rates["tracker=none",])
            print(
                f"server {name}: throughput {statistics.median(ratios):.4f} of that without a tracker (median of"
                f" {len(ratios)} pairs, {min(ratios):.4f} to {max(ratios):.4f}), {time.monotonic() - begun:.0f} s",
                flush=True,
            )
    print("local records whole and equal in every run" if whole else "RECORDS DIFFER")
    return not whole


if __name__ == "__main__":
    sys.exit(main())
