"""Every shipped question under every launcher: python -m tests.sweeping.launchers_campaign [--slurm].

``--slurm`` starts a Slurm cluster on this machine (root; ``apt-get install slurm-wlm munge``), asks every question
there, preempts a cell there and types the command of a sweep again whose driver and jobs were killed.
"""

import argparse
import contextlib
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from runner.config.store import shipped
from tests.conftest import ROOT
from tests.sweeping import slurm

SHORT = ("data.limit=64", "tracker=none", "hardware=cpu", "hardware.threads=1", "trainer.steps=4")
PRIVATE = ("data.batch_size=16", "trainer.accumulation_steps=1", "trainer.test_checkpoint=last")
QUESTIONS = {
    "precision": (3, ()),
    "batch_accumulation": (4, ("data.batch_size=16,32", "trainer.accumulation_steps=1,2")),
    "trainers": (4, ()),
    "noise": (2, (*PRIVATE, "privacy.noise_multiplier=10,20")),
    "privacy_cost": (2, (*PRIVATE, "privacy.epsilon=3")),
    "optuna_lr": (3, ("hydra.sweeper.n_trials=3", "trainer.epochs=2")),
    "optuna_pareto": (3, ("hydra.sweeper.n_trials=3", "trainer.epochs=2", "model=linear,mlp", "data.batch_size=32")),
    "optuna_dp": (
        3,
        ("hydra.sweeper.n_trials=3", "privacy.sweep_epsilon=30", "model=linear", "data.batch_size=32,64"),
    ),
}
"""name -> how many cells it has here, and what shortens it."""
LAUNCHERS = {
    "default": ("hydra.launcher.n_jobs=1",),
    "default, two at a time": ("hydra.launcher.n_jobs=2",),
    "joblib": ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
    "submitit_local": ("hydra/launcher=submitit_local", "hydra.launcher.timeout_min=10"),
}
# submitit takes a job within ten minutes of its limit for one that is out of time, and queues it again only when asked
SLURM = ("hydra/launcher=submitit_slurm", "hydra.launcher.timeout_min=60", "hydra.launcher.cpus_per_task=1")
LONG = ("sweep=precision", "precision=fp32,bf16", "data.limit=64", "tracker=none", "hardware=cpu", "hardware.threads=1",
        "trainer.epochs=20000", "trainer.save_every=50", "trainer.patience=null", "model=linear")  # fmt: skip
_ENDS_WITHIN = 900


def main():
    """Print a Markdown table; exit code 1 where a cell of it is not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m tests.sweeping.launchers_campaign", description=__doc__)
    parser.add_argument("--slurm", action="store_true", help="also on a Slurm cluster of this machine")
    parser.add_argument(
        "--questions", nargs="*", default=list(QUESTIONS), help="of them alone; none for the cuts alone"
    )
    parser.add_argument("--launchers", nargs="*", default=list(LAUNCHERS), help="of them alone, and --slurm")
    arguments = parser.parse_args()
    unasked = {path.stem for path in shipped("sweeps").glob("*.yaml")} - set(QUESTIONS)
    if unasked:
        sys.exit(f"questions that nobody asks here: {', '.join(sorted(unasked))}")
    if arguments.slurm and (problem := slurm.missing()):
        sys.exit(problem)
    launchers = {name: LAUNCHERS[name] for name in arguments.launchers}
    right = True
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="launchers-")))
        if arguments.slurm:
            stack.enter_context(slurm.cluster())
            print(f"{slurm.version()}, two nodes of one core", flush=True)
            launchers["submitit_slurm"] = SLURM
        print(f"| question (cells) | {' | '.join(launchers)} |\n|---|{'---|' * len(launchers)}", flush=True)
        for question in arguments.questions:
            found = []
            for number, typed in enumerate(launchers.values()):
                good, said = ask(folder / f"{question}-{number}", question, typed)
                right &= good
                found.append(said)
            print(f"| {question} ({QUESTIONS[question][0]}) | {' | '.join(found)} |", flush=True)
        for case in (killed_with_its_driver, preempted) if arguments.slurm else ():
            good, said = case(folder / case.__name__)
            right &= good
            print(f"\n{case.__doc__}  {'Good' if good else 'FAILED'}: {said}", flush=True)
    return 0 if right else 1


def ask(folder, question, launcher):
    """Whether the question is answered, and the seconds that it took or what is wrong."""
    cells, more = QUESTIONS[question]
    typed = {line.partition("=")[0] for line in more}
    rival = {"trainer.epochs": "trainer.steps"}
    dropped = typed | {rival.get(key) for key in typed}
    short = [line for line in SHORT if line.partition("=")[0] not in dropped]
    folder.mkdir()
    begun = time.monotonic()
    driver = start(folder, f"sweep={question}", *short, *more, *launcher)
    out, err = driver.communicate(timeout=_ENDS_WITHIN)
    seconds = time.monotonic() - begun
    wrong = problems(folder / "s", cells, driver.returncode, out, err)
    return (False, "; ".join(wrong)) if wrong else (True, f"{seconds:.0f} s")


def problems(sweep, cells, code, out, err):
    """What is not as it should be at the end of a sweep."""
    if code != 0:
        return [f"exit code {code}: {(err.splitlines() or ['nothing said'])[-1]}"]
    with (sweep / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    states = [row["status"] for row in rows]
    found = []
    if len(states) != cells or not set(states) <= {"completed", "pruned"}:
        found.append(f"{cells} cells became {', '.join(states)}")
    if not (sweep / "report.html").exists():
        found.append("no report")
    if "Traceback" in out + err:
        found.append("a traceback")
    return found


def start(folder, *typed):
    """A sweep at work in ``folder``."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "runner", *typed, "hydra.sweep.dir=s"],
        cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def preempted(folder):
    """A cell that Slurm preempts by USR2 (submitit's signal) saves, is queued again and goes on."""
    folder.mkdir()
    driver = start(folder, *LONG, *SLURM)
    job = wait_for_cell(folder / "s" / "0", driver, beyond=100)
    scontrol("scancel", "--signal=USR2", job)
    wait_until(lambda: _restarts(job) > 0, driver)
    return _ended(folder, driver, "queued again once")


def killed_with_its_driver(folder):
    """The driver of a sweep and its jobs are killed, and the same command is typed again."""
    folder.mkdir()
    driver = start(folder, *LONG, *SLURM)
    wait_for_cell(folder / "s" / "0", driver, beyond=100)
    driver.kill()
    driver.communicate()
    scontrol("scancel", "--signal=KILL", "--me")
    wait_until(lambda: not scontrol("squeue", "-h", "--me").strip())
    return _ended(folder, start(folder, *LONG, *SLURM), "killed once")


def _ended(folder, driver, said):
    out, err = driver.communicate(timeout=_ENDS_WITHIN)
    wrong = problems(folder / "s", 2, driver.returncode, out, err)
    begun = [json.loads(line) for line in (folder / "s" / "0" / "metrics.jsonl").read_text().splitlines()]
    kinds = [(record["kind"], record["step"]) for record in begun]
    if len(kinds) != len(set(kinds)):
        wrong.append("cell 0 has a record twice")
    return not wrong, "; ".join([said, *wrong])


def wait_for_cell(cell, driver, *, beyond):
    """Wait until the cell has a checkpoint of a step beyond ``beyond``; returns the job's number."""
    last = cell / "checkpoints" / "last"
    wait_until(lambda: last.exists() and int(last.resolve().name.rpartition("_")[2]) > beyond, driver)
    jobs = scontrol("squeue", "-h", "--me", "-r", "-t", "R", "-o", "%i").split()
    return min(jobs)


def _restarts(job):
    line = scontrol("scontrol", "show", "job", job, "-o")
    return int(line.partition("Restarts=")[2].split()[0])


def wait_until(happened, driver=None):
    """Wait for it; an assertion fails where the driver ends before."""
    end = time.monotonic() + _ENDS_WITHIN
    while not happened():
        assert driver is None or driver.poll() is None, driver.communicate()
        assert time.monotonic() < end, "it is too slow"
        time.sleep(0.2)


def scontrol(*command):
    """What a program of Slurm says."""
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


if __name__ == "__main__":
    sys.exit(main())
