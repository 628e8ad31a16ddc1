"""``data.batch_size=auto`` against all sizes: ``python -m tests.autotune.campaign [RECIPE ...] --cifar FOLDER``.

Of each recipe every divisor of the effective batch is run as a fixed setting, for evaluation too, in a process of its
own, and its peak memory read from ``run.json``.  Limits are then set between the smallest and the largest of these,
and a run with ``data.batch_size=auto`` made under each: is its size the largest whose real run keeps to the limit, or
the next to it?  Its numbers have to be those of the fixed setting with the same size, to the last bit, and of all
others to rounding.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from runner.config.rules.batches import divisors

ROOT = Path(__file__).resolve().parents[2]
CIFAR = "data=image_folder data.root={cifar} data.limit=300"
RECIPES = {
    "digits at 64 pixels, small_cnn": (128, "data.limit=400 data.image_size=64 model=small_cnn"),
    "CIFAR-10, resnet18": (64, f"{CIFAR} model=resnet18 model.norm=group"),
    "CIFAR-10 at 64 pixels, mobilenet, AdamW": (
        96,
        f"{CIFAR} data.image_size=64 model=mobilenet_v3_small model.norm=group optimizer=adamw data.augment.flip=true",
    ),
    "CIFAR-10, private tanh_cnn": (128, f"{CIFAR} model=tanh_cnn trainer=dp privacy.noise_multiplier=1"),
}
COMMON = "hardware=cpu hardware.threads=1 tracker=none seed=3 trainer.save_every=1"
"""Saved at each epoch: whether a run holds a copy of its best state until a save is cheap depends on the time."""
BETWEEN = (0.3, 0.7)
"""Where a limit lies between the memory of one example and that of the whole effective batch."""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="recipes (all)")
    parser.add_argument("--cifar", type=Path, help="folder with train/ and test/ of CIFAR-10 as image files")
    args = parser.parse_args()
    print("| recipe, effective batch | limit, MiB | trying everything | auto | its memory, foreseen / real | numbers |")
    print("|---|---|---|---|---|---|")
    for name in args.names or RECIPES:
        whole, text = RECIPES[name]
        with tempfile.TemporaryDirectory() as scratch:
            compare(name, whole, [*COMMON.split(), *text.format(cifar=args.cifar).split()], Path(scratch))


def compare(name, whole, overrides, scratch):
    # the second epoch begins while the best state of the first is held; private ones draw the same noise and samples
    length = "trainer.epochs=2"
    private = ["privacy.unsafe_noise_seed=5"] if "trainer=dp" in overrides else []
    overrides = [*overrides, *private, length]
    fixed = {}
    for size in divisors(whole):
        # auto evaluates as many images at a time
        split = f"data.batch_size={size} trainer.accumulation_steps={whole // size} data.eval_batch_size={size}"
        fixed[size] = run(scratch / f"fixed{size}", *overrides, *split.split())
    peaks = {size: found["memory"]["peak_bytes"] for size, found in fixed.items()}
    print(f"<!-- {name}: " + ", ".join(f"{size} {peak / 2**20:.0f} MiB" for size, peak in peaks.items()) + " -->")
    for number, share in enumerate(BETWEEN):
        limit = int(peaks[1] + share * (max(peaks.values()) - peaks[1]))
        best = max(size for size, peak in peaks.items() if peak <= limit)
        auto = run(
            scratch / f"auto{number}", *overrides, "data.batch_size=auto", f"trainer.effective_batch_size={whole}",
            f"hardware.memory_limit={limit}",
        )  # fmt: skip
        performance = auto["plan"]["performance"]
        size = performance["batch_size"]
        foreseen = performance["batch_reason"].partition(f" {size} take ")[2].split()[0]
        kept = "" if auto["memory"]["peak_bytes"] <= limit else " PASSED"
        same = "the same bits" if auto["metrics"] == fixed[size]["metrics"] else "DIFFERENT"
        furthest = max(
            abs(found["metrics"][key] - value) / max(abs(value), 1e-9)
            for found in fixed.values()
            for key, value in auto["metrics"].items()
            if key.endswith("loss")
        )
        # also what runs of one setting differ by
        print(f"<!-- beyond the smallest: {beyond(auto, float(foreseen), peaks[1]):.2f} of what was measured -->")
        print(
            f"| {name}, {whole} | {limit / 2**20:.0f} | {best} | {size} | {float(foreseen) * 2**10:.0f} /"
            f" {auto['memory']['peak_bytes'] / 2**20:.0f} MiB{kept} | {same}; all sizes within {furthest:.0e} |",
            flush=True,
        )


def beyond(auto, foreseen, least):
    """What a run took beyond the smallest batch, as a share of what was measured before."""
    measured = foreseen * 2**30 - least
    return (auto["memory"]["peak_bytes"] - least) / measured if measured > 0 else float("nan")


def run(folder, *overrides):
    command = [sys.executable, "-m", "runner", *overrides, f"hydra.run.dir={folder}"]
    ended = subprocess.run(
        command,
        cwd=folder.parent,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads((folder / "run.json").read_text())


if __name__ == "__main__":
    main()
