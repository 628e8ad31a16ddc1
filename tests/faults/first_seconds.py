"""SIGTERM in the first seconds of a run, of several processes and as process 1: python -m tests.faults.first_seconds.

Each ends with exit code 75, and no record says that it is running.  Process 1 of a PID namespace needs root.
"""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.conftest import ROOT

RECIPE = ("tracker=none", "data.limit=64", "model=mlp", "trainer.epochs=3000", "hardware=cpu", "hydra.run.dir=run")
SECONDS = (0.3, 1.0, 3.0, 8.0)


def main():
    """Print a line for each case; exit code 1 where one fails."""
    failed = 0
    several = ("trainer=accelerate", "hardware.processes=2")
    for namespace, more, wait in itertools.product((False, True), ((), several), SECONDS):
        with tempfile.TemporaryDirectory() as folder:
            code, status = _ended(Path(folder), more, wait, namespace=namespace)
        good = code == 75 and status != "running"
        failed += not good
        place = "as process 1" if namespace else "as any process"
        print(f"{'good' if good else 'FAILED'}: after {wait} s, {place}, {more}: {code}, {status}", flush=True)
    return 1 if failed else 0


def _ended(folder, more, wait, *, namespace):
    command = [*(["unshare", "-pf", "--mount-proc"] if namespace else []), sys.executable, "-m", "runner"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*command, *RECIPE, *more], cwd=folder, env=environment, stderr=subprocess.DEVNULL)
    time.sleep(wait)
    pid = process.pid
    if namespace:
        pid = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
    os.kill(pid, signal.SIGTERM)
    try:
        code = process.wait(timeout=120)
    except subprocess.TimeoutExpired:
        os.kill(pid, signal.SIGKILL)
        code = process.wait()
    status = None
    with contextlib.suppress(FileNotFoundError):
        status = json.loads((folder / "run" / "run.json").read_text())["status"]
    return code, status


if __name__ == "__main__":
    sys.exit(main())
