"""What a tracker in trouble costs: training beside a W&B server that refuses or never answers.

``python -m tests.faults.tracker_cost`` trains with W&B online where it cannot be.  Within each run, blocks of epochs
whose records go to the tracker take turns with blocks whose records do not, and neighbours make a pair: a machine
that is busy with other things is then as busy for both.  All records must equal those of a run without a tracker.
"""

import contextlib
import io
import os
import socket
import statistics
import sys
import tempfile
from pathlib import Path

BLOCK = 4
"""Epochs; the first of each is left out, because it works off what the block before has handed over."""
RECIPE = ("trainer.epochs=160", "trainer.eval_every=160", "trainer.save_every=160", "hardware=cpu",
          "hardware.threads=1", "trainer.log_every=1000")  # fmt: skip
ONLINE = ("tracker=wandb", "tracker.mode=online")


def run(folder, *overrides):
    """One run: the records without the times, and the rates of the epochs."""
    from runner.config.compose import Composer
    from runner.config.load import load_config
    from runner.execution.job import run_job
    from runner.records.metrics import read_metrics

    composer = Composer(caller=folder)
    composed = composer.compose([*RECIPE, *overrides])
    folder.mkdir()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        run_job(load_config(composed, composer.option_defaults(composed)), {}, folder, None)
    times = {"samples_per_second", "seconds"}
    found = read_metrics(folder / "metrics.jsonl")
    records = [[(key, value) for key, value in record.items() if key not in times] for record in found]
    return records, [record["samples_per_second"] for record in found if record["kind"] == "train"]


def take_turns():
    """Hand every second block of records to the trackers, and keep the others from them."""
    from runner.records.recorder import Recorder

    write = Recorder.write

    def write_in_turns(self, kind, *, step, epoch, **metrics):
        sinks = self._sinks
        if (round(epoch) - 1) // BLOCK % 2:
            self._sinks = ()
        try:
            write(self, kind, step=step, epoch=epoch, **metrics)
        finally:
            self._sinks = sinks

    Recorder.write = write_in_turns


def ratios(rates):
    """Rate with the tracker over rate without it, of each pair of blocks."""
    blocks = [statistics.median(rates[start + 1 : start + BLOCK]) for start in range(0, len(rates), BLOCK)]
    return [told / silent for told, silent in zip(blocks[::2], blocks[1::2], strict=False)]


def main():
    """Print the ratio for each kind of trouble, with its spread."""
    os.environ |= {"WANDB_API_KEY": "0" * 40, "OMP_NUM_THREADS": "1"}
    whole = True
    with socket.socket() as silent, tempfile.TemporaryDirectory() as folder:
        silent.bind(("127.0.0.1", 0))
        silent.listen(100)
        os.environ["XDG_CACHE_HOME"] = folder
        expected, _ = run(Path(folder) / "without", "tracker=none")
        take_turns()
        for name, address in {
            "refuses": "http://127.0.0.1:9",
            "never answers": f"http://127.0.0.1:{silent.getsockname()[1]}",
        }.items():
            os.environ["WANDB_BASE_URL"] = address
            records, rates = run(Path(folder) / name, *ONLINE)
            whole = whole and records == expected
            found = sorted(ratios(rates))
            quarter = len(found) // 4
            print(
                f"server {name}: throughput {statistics.median(found):.4f} of that without records for the tracker"
                f" (median of {len(found)} pairs, middle half {found[quarter]:.4f} to {found[-quarter - 1]:.4f})",
                flush=True,
            )
    print("local records whole and equal in every run" if whole else "RECORDS DIFFER")
    return not whole


if __name__ == "__main__":
    sys.exit(main())
