"""Two nodes that share no disk, by torchrun and mount namespaces (needs root): python -m tests.faults.two_nodes.

A run is killed on both nodes and started again, with and without a shared disk, and ends as one that nobody disturbed;
a finished one ends at once; a node with other images is refused by both.
"""

import argparse
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tests.conftest import ROOT
from tests.faults.final_state import differences, final_state

RECIPE = (
    *("tracker=none", "trainer=accelerate", "data.limit=200", "model=mlp", "trainer.steps=600", "trainer.save_every=2"),
    *("hardware=cpu", "hardware.threads=1"),
)
SECONDS = 180


def main():
    """Print a line for each case; exit code 1 where one fails."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for shared in (True, False):
            disks = "a shared disk" if shared else "no shared disk"
            whole, cut = place / f"whole-{shared}", place / f"cut-{shared}"
            failed += _say(f"a run on {disks}", _ended(_launch(place, whole, shared=shared)) == [0, 0])
            nodes = _launch(place, cut, shared=shared)
            _wait_for_checkpoint(cut, nodes)
            _kill(nodes)
            failed += _say(f"killed and gone on with on {disks}", _ended(_launch(place, cut, shared=shared)) == [0, 0])
            same = [path for path in differences(final_state(whole), final_state(cut)) if not path.startswith("files")]
            failed += _say("to the same bits", not same)
            failed += _say(f"finished before, on {disks}", _ended(_launch(place, cut, shared=shared)) == [0, 0])
        other = _launch(place, place / "other", shared=False, second=("data.split_seed=1",))
        failed += _say(
            "another command on the second node is refused by both", _refused(place, other, "command: got [")
        )
        failed += _say("other images on the second node are refused by both", _other_images(place))
    return 1 if failed else 0


def _say(case, good):
    print(f"{'good' if good else 'FAILED'}: {case}", flush=True)
    return [] if good else [case]


def _launch(place, run, *, shared, recipe=RECIPE, second=(), hide=None):
    """Both nodes; the second in a mount namespace of its own where no disk is shared."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    nodes = []
    for rank in (0, 1):
        cache = place / f"cache{rank}"
        command = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
        command += [f"--node-rank={rank}", "--master-addr=127.0.0.1", f"--master-port={port}", "-m", "runner", *recipe]
        command += [f"hydra.run.dir={run}", *(second if rank else ())]
        if rank and not shared:
            hidden = "true" if hide is None else f"mount --bind {hide[1]} {hide[0]}"
            run.mkdir(exist_ok=True)
            script = f'mount -t tmpfs none {run} && {hidden} && exec "$@"'
            command = ["unshare", "-m", "bash", "-c", script, "bash", *command]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(cache)}
        with (place / f"node{rank}.log").open("ab") as log:
            nodes.append(
                subprocess.Popen(command, cwd=place, env=environment, stdout=log, stderr=log, start_new_session=True)
            )
    return nodes


def _ended(nodes):
    """The exit codes; None for a node that had to be killed."""
    end = time.monotonic() + SECONDS
    codes = []
    for node in nodes:
        try:
            codes.append(node.wait(timeout=max(0.1, end - time.monotonic())))
        except subprocess.TimeoutExpired:
            codes.append(None)
    _kill(nodes)
    return codes


def _kill(nodes):
    for node in nodes:
        with contextlib.suppress(psutil.NoSuchProcess):
            # torchrun gives its workers sessions of their own
            for process in (*psutil.Process(node.pid).children(recursive=True), psutil.Process(node.pid)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        node.wait()


def _wait_for_checkpoint(run, nodes):
    end = time.monotonic() + SECONDS
    while not (run / "checkpoints" / "last").exists():
        assert all(node.poll() is None for node in nodes), "it ended too early"
        assert time.monotonic() < end, "it is too slow"
        time.sleep(0.05)


def _other_images(place):
    """Whether both nodes are refused, and the line says where the images differ."""
    import numpy as np
    from PIL import Image

    draw = np.random.default_rng(0)
    for name in ("ours", "theirs"):
        for number in range(24):
            file = place / name / f"class{number % 2}" / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(file)
    recipe = ("tracker=none", "trainer=accelerate", "hardware=cpu", "data=image_folder", f"data.root={place / 'ours'}")
    nodes = _launch(place, place / "images", shared=False, recipe=recipe, hide=(place / "ours", place / "theirs"))
    return _refused(place, nodes, "data: got images of fingerprint")


def _refused(place, nodes, line):
    codes = _ended(nodes)
    return 0 not in codes and None not in codes and f"error: {line}" in (place / "node0.log").read_text()


if __name__ == "__main__":
    sys.exit(main())
