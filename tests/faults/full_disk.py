"""A disk that fills up at every size: a small tmpfs, filled to within a few KiB, holds the run's folder.

``python -m tests.faults.full_disk`` needs ``unshare`` (a mount namespace of its own, so that nothing is left mounted).
Each trial starts a run with so much room, insists on one line, frees the disk and goes on: the end must be that of a
run that always had room.
"""

import contextlib
import io
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

RECIPE = ("tracker=none", "data.limit=60", "data.batch_size=16", "model=mlp", "model.hidden=[32]", "trainer.epochs=6",
          "trainer.save_every=1", "trainer.log_every=1", "hardware=cpu", "hardware.threads=1",
          "optimizer=adam")  # fmt: skip
DISK_KIB = 2048
ROOMS_KIB = (0, 4, 8, 16, 24, 32, 48, 64, 80, 96, 112, 128, 160, 192, 256)


def attempt(config, run_dir):
    """Run to the end: None, or the error."""
    from runner.errors import RequestError, RunError
    from runner.execution.job import run_job

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            run_job(config, {}, run_dir, None)
        except (RunError, RequestError) as error:
            return error
    return None


def trials(small, folder):
    """Fill, run, free, run; counts of how each ended, and what went wrong."""
    from runner.training.checkpointing.checkpoint import load_checkpoint, saved_steps
    from tests.faults.final_state import differences, final_state
    from tests.faults.forked_runs import configure

    config = configure(RECIPE)
    whole = folder / "whole"
    whole.mkdir()
    assert attempt(config, whole) is None
    expected, found, wrong = final_state(whole), Counter(), []
    for room in ROOMS_KIB:
        run_dir = small / f"run{room}"
        run_dir.mkdir()
        free = os.statvfs(small).f_bavail * os.statvfs(small).f_frsize
        filler = small / "filler"
        filler.write_bytes(b"\0" * max(0, free - room * 1024))
        error = attempt(config, run_dir)
        if error is not None and "\n" in str(error):
            wrong.append(f"{room} KiB: {error}")
        whole_ones = [load_checkpoint(path) for path in saved_steps(run_dir / "checkpoints")]
        found[f"{'no error' if error is None else str(error).partition(' cannot')[0].partition(':')[0]}"] += 1
        filler.unlink()
        if (again := attempt(config, run_dir)) is not None:
            wrong.append(f"{room} KiB, then room: {again}")
        elif differing := differences(final_state(run_dir), expected):
            wrong.append(f"{room} KiB, {len(whole_ones)} checkpoints: {differing[:3]}")
        for path in sorted(run_dir.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    run_dir = small / "read-only"
    run_dir.mkdir()
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
    error = attempt(config, run_dir)
    found[f"read-only: {error}".replace(str(small), "")] += 1
    subprocess.run(["mount", "-o", "remount,rw", str(small)], check=True)
    if error is None or "\n" in str(error) or attempt(config, run_dir) or differences(final_state(run_dir), expected):
        wrong.append(f"read-only: {error}")
    return found, wrong


def main():
    """Print how the runs ended; 0 when every one went on to the same bits."""
    if len(sys.argv) == 1:
        command = ["unshare", "--map-root-user", "--mount", sys.executable, "-m", "tests.faults.full_disk", "inside"]
        return subprocess.run(command, check=False).returncode
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small"
        small.mkdir()
        options = ["-t", "tmpfs", "-o", f"size={DISK_KIB}k", "tmpfs", str(small)]
        subprocess.run(["mount", *options], check=True)
        os.environ |= {"XDG_CACHE_HOME": f"{folder}/cache", "XDG_DATA_HOME": f"{folder}/data",
                       "XDG_STATE_HOME": f"{folder}/state"}  # fmt: skip
        try:
            found, wrong = trials(small, Path(folder))
        finally:
            subprocess.run(["umount", "--lazy", str(small)], check=True)
    for line in wrong:
        print(line)
    print(f"{len(ROOMS_KIB) + 1} disks: {dict(found)}; {len(wrong)} did not go on to the same bits")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
