"""Ctrl-C at random moments of commands that start several processes: ``python -m tests.faults.ctrl_c``.

A command starts in a session of its own, and its whole process group gets SIGINT at a moment drawn uniformly, from when
Python has started to ``SECONDS``; with ``--twice`` a second one follows within a second.  Right is exit code 75, after
the second SIGINT also the end by that signal (130 in a shell), each without a traceback; after one alone nothing is
left in the cache.  What had ended by then is drawn again.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.conftest import ROOT

RECIPE = ("data=digits", "model=mlp", "hardware=cpu", "hardware.threads=1")
TWO = ("trainer=accelerate", "hardware.processes=2")
COMMANDS = {
    "plan": ("runner", "plan", *RECIPE, *TWO, "tracker=none"),
    "plan with W&B": ("runner", "plan", *RECIPE, *TWO),
    "run": ("runner", *RECIPE, *TWO, "tracker=none", "trainer.epochs=100000", "hydra.run.dir=OUT"),
    "inference": ("runner", "infer", "run=RUN", "inference=accelerate", "output=OUT"),
}
SECONDS = {"plan": 6.5, "plan with W&B": 9.0, "run": 8.0, "inference": 7.0}
"""About what each takes on a busy machine; a run is under way by then."""


def start(command, folder, trial):
    """The running command, in ``folder``; what it says goes to a file."""
    words = [word.replace("OUT", str(folder / f"out{trial}")).replace("RUN", str(folder / "run")) for word in command]
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    with (folder / f"said{trial}").open("wb") as said:
        return subprocess.Popen(
            [sys.executable, "-m", *words], cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=said,
            start_new_session=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip


def interrupt(command, folder, trial, moment, gap):
    """How the command ends that is interrupted at ``moment``, and again after ``gap`` seconds; None for before that."""
    process = start(command, folder, trial)
    try:
        process.wait(moment)
        return None
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGINT)
    if gap is not None:
        time.sleep(gap)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
    try:
        code = process.wait(60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return f"still there after 60 s: {process.wait()}"
    said = (folder / f"said{trial}").read_text()
    if "Traceback" in said:
        return f"code {code} with a traceback: {said[-300:]}"
    if gap is None and (left := [path.name for path in (folder / "cache").rglob(".plan-*")]):
        return f"code {code} with {left} left"
    if code == -signal.SIGINT and gap is not None:
        return "ended by the second"
    return "75" if code == 75 else f"code {code}: {said[-300:]}"


def main():
    """Print a line a command, and end with 0 when all of them were right."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.ctrl_c", description=__doc__)
    parser.add_argument("--moments", type=int, default=60, help="a command")
    parser.add_argument("--twice", action="store_true", help="a second Ctrl-C after the first")
    parser.add_argument("--commands", nargs="*", default=list(COMMANDS), choices=list(COMMANDS), metavar="NAME")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="recipe-runner-ctrl-c-") as name:
        folder = Path(name)
        trained = ("runner", *RECIPE, "tracker=none", "trainer.epochs=1", f"hydra.run.dir={folder / 'run'}")
        assert start(trained, folder, "training").wait() == 0
        for name in arguments.commands:
            draw, found, trial = random.Random(f"{name} {arguments.seed}"), Counter(), 0
            while found.total() < arguments.moments:
                moment, gap = draw.uniform(0.15, SECONDS[name]), 10 ** draw.uniform(-4, 0)
                ended = interrupt(COMMANDS[name], folder, trial, moment, gap if arguments.twice else None)
                trial += 1
                if ended is not None:
                    found[ended] += 1
                    if ended not in ("75", "ended by the second"):
                        wrong += 1
                        print(f"  {name} at {moment:.3f} s, gap {gap:.4f} s: {ended}", flush=True)
            right = found["75"] + found["ended by the second"]
            print(f"{name:15} {right}/{arguments.moments}, {found['ended by the second']} by the second", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
