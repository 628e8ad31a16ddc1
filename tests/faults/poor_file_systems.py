"""Runs on mounted file systems without locks, links or ``fsync`` of folders: python -m tests.faults.poor_file_systems.

Two are mounted (root, /dev/fuse): exFAT in a file (``apt-get install exfat-fuse exfatprogs``), and a FUSE file system
over an ordinary folder that refuses ``flock``, symbolic and hard links, changes of permissions and ``fsync`` of folders
(``pip install mfusepy``, libfuse2 or libfuse3).  ``--mounted FOLDER`` takes one that is there.  On each: a run that is
killed and goes on, to the bits of one on an ordinary disk; a private one, to its steps and ε; a refused second start
while one is under way; and a sweep of two cells that is asked twice.  Working folder, cache, ledger and its notes all
lie there.
"""

import argparse
import contextlib
import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.conftest import ROOT
from tests.faults.final_state import differences, final_state

COMMON = ("tracker=none", "data.limit=64", "data.batch_size=16", "model=linear", "hardware=cpu", "hardware.threads=1",
          "trainer.save_every=10", "trainer.patience=null")  # fmt: skip
RUNS = {"a run": ("trainer.epochs=400",), "a private run": ("experiment=dp_digits", "trainer.steps=400")}
WITHIN = 240


def main():
    """Print what each file system lacks and a line for each case; exit code 1 where one fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.poor_file_systems", description=__doc__)
    parser.add_argument("--mounted", type=Path, action="append", metavar="FOLDER", help="a folder of a file system")
    arguments = parser.parse_args()
    failed = []
    with tempfile.TemporaryDirectory(prefix="poor-") as name:
        ordinary = Path(name) / "ordinary"
        ordinary.mkdir()
        for case, typed in RUNS.items():
            code, err = _run(ordinary, *COMMON, *typed, f"hydra.run.dir={_folder(case)}")
            assert code == 0, err
        places = {str(path): contextlib.nullcontext(path) for path in arguments.mounted or ()}
        places = places or {"exFAT": _exfat(Path(name)), "FUSE without locks and links": _poor_fuse(Path(name))}
        for kind, mount in places.items():
            with mount as folder:
                print(f"{kind}: {', '.join(_lacks(folder)) or 'lacks nothing'}", flush=True)
                with tempfile.TemporaryDirectory(dir=folder, prefix="runs-") as inside:
                    failed += _cases(kind, Path(inside), ordinary)
    return 1 if failed else 0


def _cases(kind, place, ordinary):
    """The cases that failed."""
    failed = []

    def say(case, wrong):
        print(f"{f'FAILED ({wrong})' if wrong else 'good'}: {kind}, {case}", flush=True)
        failed.extend([case] if wrong else [])

    for case, typed in RUNS.items():
        typed = (*COMMON, *typed, f"hydra.run.dir={_folder(case)}")
        cut, run = _start(place, *typed), place / _folder(case)
        _wait(lambda run=run: len(list((run / "checkpoints").glob("step_*/manifest.json"))) > 1, cut)
        cut.send_signal(signal.SIGSTOP)  # the second start takes longer than what is left of it
        code, err = _run(place, *typed)
        say(f"{case}, a second start of it while it is under way", code != 2 and f"exit code {code}, {err[-300:]}")
        cut.kill()
        cut.communicate()
        code, err = _run(place, *typed)
        wrong = code and f"exit code {code}, {err[-300:]}"
        if not wrong:
            found = differences(final_state(run), final_state(ordinary / _folder(case)))
            # the draws of a private run are secret, so that no two of them compute the same
            kept = ("run.privacy", "run.steps", "run.epochs", "run.status", "records length")
            compared = [path for path in found if path.startswith(kept) or "private" not in case]
            wrong = ", ".join(path for path in compared if not path.startswith("files"))[:300]
        say(f"{case}, killed and gone on with, against an ordinary disk", wrong)
    for note in json.loads((place / _folder("a run") / "run.json").read_text())["notes"]:
        print(f"  it says: {note.replace(str(place), '...')}")
    for time_asked in ("", ", asked again"):
        code, err = _run(place, *COMMON, "--multirun", "trainer.epochs=2", "optimizer.lr=0.1,0.2", "hydra.sweep.dir=s")
        report = (place / "s" / "report.html").exists() and len(
            (place / "s" / "table.csv").read_text().splitlines()
        ) == 3
        say(f"a sweep of two cells{time_asked}", (code or not report) and f"exit code {code}, {err[-300:]}")
    return failed


def _folder(case):
    return case.replace(" ", "-")


def _start(place, *typed):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HOME": str(place)}
    for name in ("CACHE", "DATA", "STATE"):
        environment.pop(f"XDG_{name}_HOME", None)
    return subprocess.Popen(
        [sys.executable, "-m", "runner", *typed], cwd=place, env=environment, text=True, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )  # fmt: skip


def _run(place, *typed):
    process = _start(place, *typed)
    _, err = process.communicate(timeout=WITHIN)
    return process.returncode, err


def _wait(happened, process=None):
    end = time.monotonic() + WITHIN
    while not happened():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < end, "it is too slow"
        time.sleep(0.01)


def _lacks(folder):
    """What the file system refuses, tried here and now."""
    path, found = folder / "tried", []
    path.touch()

    def opened(target, work):
        handle = os.open(target, os.O_RDONLY)
        try:
            work(handle)
        finally:
            os.close(handle)

    tries = {
        "flock": lambda: opened(path, lambda handle: fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)),
        "symbolic links": lambda: (folder / "link").symlink_to("tried"),
        "hard links": lambda: (folder / "second").hardlink_to(path),
        "fsync of folders": lambda: opened(folder, os.fsync),
        "permissions": lambda: path.chmod(0o600),
    }
    for name, attempt in tries.items():
        try:
            attempt()
        except OSError as error:
            found.append(f"no {name} ({errno.errorcode[error.errno]})")
    if path.stat().st_mode & 0o777 != 0o600 and not any("permissions" in line for line in found):
        found.append("no permissions (silently)")
    for name in ("link", "second", "tried"):
        (folder / name).unlink(missing_ok=True)
    return found


@contextlib.contextmanager
def _exfat(place):
    image, folder = place / "exfat.img", place / "exfat"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(400 << 20)
    subprocess.run(["mkfs.exfat", image], check=True, capture_output=True)
    asked = subprocess.run(["losetup", "--find", "--show", image], check=True, capture_output=True, text=True)
    device = asked.stdout.strip()
    try:
        subprocess.run(["mount.exfat-fuse", device, folder], check=True, capture_output=True)
        try:
            yield folder
        finally:
            subprocess.run(["umount", folder], check=True)
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


@contextlib.contextmanager
def _poor_fuse(place):
    source, folder = place / "source", place / "fuse"
    source.mkdir()
    folder.mkdir()
    command = [sys.executable, "-m", "tests.faults.poor_fuse", str(source), str(folder)]
    with subprocess.Popen(command, cwd=ROOT) as server:
        _wait(folder.is_mount, server)
        try:
            yield folder
        finally:
            subprocess.run(["umount", folder], check=True)
            server.wait(timeout=30)


if __name__ == "__main__":
    sys.exit(main())
