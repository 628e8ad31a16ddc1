"""SIGTERM in the first seconds of a run, of several processes and as process 1: python -m tests.faults.first_seconds.

Each ends with exit code 75, and no record says that it is running.  The seconds count from the moment at which the
process catches SIGTERM, and how long that takes is printed: before it, while the interpreter itself starts, the signal
kills an ordinary process, and the kernel drops it for process 1.  Process 1 of a PID namespace needs root.
"""

import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.conftest import ROOT

RECIPE = ("tracker=none", "data.limit=64", "model=mlp", "trainer.epochs=3000", "hardware=cpu", "hydra.run.dir=run")
SECONDS = (0.0, 1.0, 3.0, 8.0)


def main():
    """Print a line for each case; exit code 1 where one fails."""
    failed = 0
    several = ("trainer=accelerate", "hardware.processes=2")
    for namespace, more, wait in itertools.product((False, True), ((), several), SECONDS):
        with tempfile.TemporaryDirectory() as folder:
            code, status, deaf = _ended(Path(folder), more, wait, namespace=namespace)
        good = code == 75 and status != "running"
        failed += not good
        place = "as process 1" if namespace else "as any process"
        case = f"after {deaf:.2f} + {wait} s, {place}, {len(more) or 1} process{'es' if more else ''}"
        print(f"{'good' if good else 'FAILED'}: {case}: exit code {code}, record {status}", flush=True)
    return 1 if failed else 0


def _ended(folder, more, wait, *, namespace):
    command = [*(["unshare", "-pf", "--mount-proc"] if namespace else []), sys.executable, "-m", "runner"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    begun = time.monotonic()
    process = subprocess.Popen(
        [*command, *RECIPE, *more], cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while not (pid := _catching(process.pid, namespace=namespace)):
        assert process.poll() is None, process.returncode
        time.sleep(0.005)
    deaf = time.monotonic() - begun
    time.sleep(wait)
    os.kill(pid, signal.SIGTERM)
    try:
        code = process.wait(timeout=120)
    except subprocess.TimeoutExpired:
        os.kill(pid, signal.SIGKILL)
        code = process.wait()
    status = None
    with contextlib.suppress(FileNotFoundError):
        status = json.loads((folder / "run" / "run.json").read_text())["status"]
    return code, status, deaf


def _catching(pid, *, namespace):
    """The process id of the runner, once it catches SIGTERM; None before."""
    if namespace:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if not children:
            return None
        pid = int(children[0])
    caught = re.search(r"^SigCgt:\s*(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return pid if int(caught[1], 16) >> (signal.SIGTERM - 1) & 1 else None


if __name__ == "__main__":
    sys.exit(main())
