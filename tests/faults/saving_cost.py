"""What saving costs: the share of a run's time that it takes, as asked for by default and after each epoch.

``python -m tests.faults.saving_cost`` takes the time around every save of runs in this process.
"""

import contextlib
import io
import sys
import tempfile
import time
from pathlib import Path

DIGITS = ("model=mlp", "trainer.epochs=300")
RESNET = ("model=resnet18", "data=synthetic", "data.num_train=2048", "data.num_val=64", "data.num_test=64",
          "data.eval_batch_size=64", "trainer.epochs=2")  # fmt: skip
RUNS = {
    "digits, mlp, default": DIGITS,
    "digits, mlp, save_every=1": (*DIGITS, "trainer.save_every=1"),
    "resnet18, 2048 images of 32 x 32, default": RESNET,
    "resnet18, 2048 images of 32 x 32, save_every=1": (*RESNET, "trainer.save_every=1"),
}


def measure(folder, overrides):
    """Seconds of the loop, seconds in saves, number of saves."""
    from runner.config.compose import Composer
    from runner.config.load import load_config
    from runner.execution.job import run_job
    from runner.training.loop import Loop

    took, whole = [], []

    def timed(method, durations):
        def call(*arguments, **options):
            begun = time.perf_counter()
            result = method(*arguments, **options)
            durations.append(time.perf_counter() - begun)
            return result

        return call

    save, fit = Loop._save, Loop.fit
    composer = Composer(caller=folder)
    composed = composer.compose(["tracker=none", "hardware=cpu", "hardware.threads=1", *overrides])
    Loop._save, Loop.fit = timed(save, took), timed(fit, whole)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            run_job(load_config(composed, composer.option_defaults(composed)), {}, folder, None)
    finally:
        Loop._save, Loop.fit = save, fit
    return sum(whole), sum(took), len(took)


def main():
    """Print a line a run."""
    for name, overrides in RUNS.items():
        with tempfile.TemporaryDirectory() as folder:
            whole, saving, count = measure(Path(folder), overrides)
        print(f"{name}: {100 * saving / whole:.1f} % of {whole:.1f} s in {count} saves and copies", flush=True)


if __name__ == "__main__":
    sys.exit(main())
