"""A machine that really has too little memory: the address space of a process is limited, and torch's allocator fails.

``python -m tests.faults.little_memory`` runs a convolutional network with a micro-batch of 512 in ever less room and
compares the figures with those of a run that has all it wants.
"""

import importlib
import json
import re
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

RECIPE = ("tracker=none", "data=synthetic", "data.image_size=32", "data.num_train=600", "data.num_val=100",
          "data.num_test=100", "model=small_cnn", "data.batch_size=512", "trainer.steps=2", "hardware=cpu",
          "hardware.threads=1", "precision=fp64")  # fmt: skip
ROOMS_MIB = (None, 400, 250, 150)


def inside(room, folder):
    """Run the recipe in this process with ``room`` MiB more than it has mapped once everything is imported."""
    for name in (
        "torch._dynamo",
        "runner.training.loop",
        "runner.training.parts",
        "runner.training.checkpointing.resume",
    ):
        importlib.import_module(name)
    if room:
        mapped = int(re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())[1])
        resource.setrlimit(resource.RLIMIT_AS, ((mapped + 1024 * room) * 1024,) * 2)
    from runner.commands.train import main

    return main([*RECIPE, f"hydra.run.dir={folder}"])


def main():
    """Print how often each run halved, and the largest relative difference of its figures."""
    if len(sys.argv) == 3:
        return inside(int(sys.argv[1]), sys.argv[2])
    wrong, whole = 0, None
    with tempfile.TemporaryDirectory() as folder:
        for room in ROOMS_MIB:
            run_dir = Path(folder) / f"room{room}"
            command = [sys.executable, "-m", "tests.faults.little_memory", str(room or 0), str(run_dir)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                print(f"{room} MiB: exit code {done.returncode}, {done.stderr.splitlines()[-1]}")
                wrong += 1
                continue
            run = json.loads((run_dir / "run.json").read_text())
            figures = run["metrics"]
            whole = whole or figures
            difference = max(abs(figures[name] - whole[name]) / whole[name] for name in whole)
            sizes = [f"{halving['phase']} {halving['batch_size']}" for halving in run["out_of_memory"]]
            wrong += difference > 1e-9
            print(
                f"{room or 'any'} MiB: {', '.join(sizes) or 'no halving'}; figures differ by {difference:.1e}",
                flush=True,
            )
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
