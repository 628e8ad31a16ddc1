"""What planning must show, measured: ``python -m tests.forecast.campaign foresee|table|start``.

``foresee [RECIPE ...] --into FILE`` adds a line of JSON for each recipe; ``table FILE`` makes a table of them.  Of a
recipe there are three commands, each a process of its own as a user starts it: a plan without a probe, a plan with one,
and the run.  ``run.json`` holds the error of the latter plan; epsilon is compared as numbers.  What else the
machine did during the latter plan and the run, in cores, stands beside, because a plan is of the machine as it is.
``start`` times the plans of a small model alone, ordinary and private.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.conftest import last_of_each

ROOT = Path(__file__).resolve().parents[2]
CIFAR = "data=image_folder data.root={cifar}"
RECIPES = {
    "digits, small_cnn": "trainer.epochs=15",
    "digits, mlp, AdamW, EMA": "model=mlp optimizer=adamw trainer.epochs=40 trainer.ema_decay=0.99",
    "digits, bf16": "precision=bf16 trainer.epochs=12",
    "digits, fp16": "precision=fp16 trainer.epochs=6",
    "digits, 16 x 4 accumulated": "data.batch_size=16 trainer.accumulation_steps=4 trainer.epochs=12",
    "digits, mlp, W&B": "model=mlp tracker=wandb trainer.epochs=100",
    "digits, 2 processes": "trainer=accelerate hardware.processes=2 trainer.epochs=15",
    "digits, private small_cnn": "trainer=dp privacy.epsilon=3 trainer.epochs=6",
    "digits, private mlp_hog": "trainer=dp model=mlp_hog privacy.noise_multiplier=1.1 trainer.epochs=30",
    "CIFAR-10, small_cnn, flips": f"{CIFAR} data.limit=4000 data.augment.flip=true trainer.epochs=2",
    "CIFAR-10, mlp of 3.7 M": f"{CIFAR} data.limit=8000 model=mlp model.hidden=[1024,512] trainer.epochs=4",
    "CIFAR-10, resnet18": f"{CIFAR} data.limit=320 model=resnet18 data.batch_size=32 trainer.epochs=3",
}
COMMON = "hardware=cpu hardware.threads=1"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["foresee", "table", "start"])
    parser.add_argument("names", nargs="*", help="recipes, or the file of a table")
    parser.add_argument("--into", type=Path, help="file to add a line of JSON to for each recipe")
    parser.add_argument("--cifar", type=Path, help="folder with train/ and test/ of CIFAR-10 as image files")
    args = parser.parse_intermixed_args()
    if args.what == "start":
        start()
    elif args.what == "table":
        table([json.loads(line) for name in args.names for line in Path(name).read_text().splitlines()])
    else:
        foresee_all(args.names or list(RECIPES), into=args.into, cifar=args.cifar)


def foresee_all(names, *, into, cifar):
    for name in names:
        overrides = last_of_each([*COMMON.split(), "tracker=none", *RECIPES[name].format(cifar=cifar).split()])
        with tempfile.TemporaryDirectory() as scratch:
            found = {"recipe": name, **foresee(overrides, Path(scratch))}
        print(name, found, flush=True)
        if into is not None:
            with into.open("a") as file:
                file.write(json.dumps(found) + "\n")


def foresee(overrides, scratch):
    """The two plans of a recipe and what then happened."""
    command("plan", *overrides, "hydra.run.dir=decoded", "--no-probe", cwd=scratch)  # decodes the images once
    started = time.perf_counter()
    estimate = command("plan", *overrides, "--no-probe", "--json", "-", cwd=scratch)
    between = time.perf_counter()
    before = others()
    probe = command("plan", *overrides, "--json", "-", cwd=scratch)
    ended, meanwhile = time.perf_counter(), others()
    command("runner", *overrides, "hydra.run.dir=run", cwd=scratch)
    after, finished = others(), time.perf_counter()
    run = json.loads((scratch / "run" / "run.json").read_text())
    privacy = json.loads(probe)["plan"]["semantic"]["privacy"]
    spent = run["privacy"]
    estimated = json.loads(estimate)["forecast"]
    return {
        "seconds": run["seconds"],
        "peak_bytes": run["memory"]["peak_bytes"],
        "probe_seconds": run["prediction"]["seconds"],
        "probe_seconds_error": run["prediction"]["seconds_error"],
        "probe_peak_error": run["prediction"]["peak_bytes_error"],
        "estimate_seconds": estimated["seconds"]["expected"],
        "estimate_peak": estimated["peak_bytes"]["expected"],
        "epsilon": None if spent is None else [privacy["epsilon"], spent["epsilon"]],
        "planning_seconds": [between - started, ended - between],
        "others": [(meanwhile - before) / (ended - between), (after - meanwhile) / (finished - ended)],
    }


def others():
    """Seconds that all cores have worked for programs that this one did not start."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    user, nice, system, _, _, irq, softirq, steal = fields
    own = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return busy - own.ru_utime - own.ru_stime


def command(name, *arguments, cwd):
    ended = subprocess.run(
        [sys.executable, "-m", "runner", name, *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def table(rows):
    print(
        "| recipe | time | foreseen | error | estimate | memory, MiB | error | estimate | ε foreseen / spent"
        " | other work, cores |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        epsilon = "" if row["epsilon"] is None else " / ".join(repr(value) for value in row["epsilon"])
        print(
            f"| {row['recipe']} | {row['seconds']:.2f} s | {row['probe_seconds']:.2f} s"
            f" | {row['probe_seconds_error']:+.1%} | {row['estimate_seconds'] / row['seconds']:.2f}x"
            f" | {row['peak_bytes'] / 2**20:.0f}"
            f" | {row['probe_peak_error']:+.1%} | {row['estimate_peak'] / row['peak_bytes']:.2f}x | {epsilon}"
            f" | {row['others'][0]:.2f} / {row['others'][1]:.2f} |"
        )
    for name, key, most in (("time", "probe_seconds_error", 0.15), ("memory", "probe_peak_error", 0.10)):
        errors = [abs(row[key]) for row in rows]
        inside = sum(error <= most for error in errors)
        print(f"\n{name}: {inside} of {len(rows)} within {most:.0%}; median {statistics.median(errors):.1%}")


def start():
    """How long plans of a small model take, from the shell."""
    for arguments in (["--no-probe"], ["--no-probe", "trainer=dp"], [], ["trainer=dp"]):
        taken = []
        for _ in range(5):
            with tempfile.TemporaryDirectory() as scratch:
                begun = time.perf_counter()
                command("plan", *COMMON.split(), *arguments, cwd=Path(scratch))
                taken.append(time.perf_counter() - begun)
        print(arguments, f"{statistics.median(taken):.2f} s", [round(seconds, 2) for seconds in taken])


if __name__ == "__main__":
    main()
