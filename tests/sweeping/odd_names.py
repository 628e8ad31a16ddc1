"""Sweeps with odd names of classes and folders, on streams that cannot show them: python -m tests.sweeping.odd_names.

Each ends with its right exit code, with table and report, and without a traceback.
"""

import csv
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from tests.conftest import ROOT

CLASSES = (
    "$a$",
    "cost $x_1^2$ {b",
    "née Ångström",
    "日本",
    "\N{PILE OF POO}\ufe0f",
    "${oc.env:HOME}",
    'it\'s; a "b" <i>&',
    "a_b%c#d",
)
FOLDERS = {"a sweep, é $b$ {c} \N{PILE OF POO}": 0, "x=y [1] 'q'": 0, "gone ${b}": 2}
STREAMS = {
    "UTF-8": ({"LC_ALL": "C.UTF-8"}, ""),
    "ASCII": ({"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}, ""),
    "ASCII, files too": ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, ""),
    "Latin-1": ({"PYTHONIOENCODING": "latin-1"}, ""),
    "closed": ({"LC_ALL": "C"}, ">&- 2>&- <&-"),
}
RECIPE = ("tracker=none", "model=linear", "data=image_folder", "data.root=photos", "data.image_size=8", "hardware=cpu",
          "hardware.threads=1", "trainer.steps=4", "data.batch_size=8")  # fmt: skip


def main():
    """Print a line for each case; exit code 1 where one fails."""
    draw, failed = np.random.default_rng(0), 0
    with tempfile.TemporaryDirectory() as name:
        for number, label in enumerate(label for label in CLASSES for _ in range(12)):
            file = Path(name) / "photos" / label / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(file)
        for streams in STREAMS:
            plain = streams == "ASCII, files too"  # there a name in other letters is refused
            cases = [
                (folder, "0.1,0.2", 2 if plain and not folder.isascii() else code) for folder, code in FOLDERS.items()
            ]
            cases += [("fails", "0.1,1e38", 1)]
            for folder, rates, expected in cases:
                wrong = _asked(Path(name), streams, f"{streams} {folder}", rates, expected)
                failed += bool(wrong)
                print(
                    f"{'FAILED' if wrong else 'good'}: {streams}, {folder!a}, rates {rates}: {wrong or expected}",
                    flush=True,
                )
    return 1 if failed else 0


def _asked(place, streams, folder, rates, expected):
    variables, redirections = STREAMS[streams]
    quoted = folder.replace("\\", "\\\\").replace("'", "\\'").replace("$", "\\$" if "${" in folder else "$")
    typed = ("--multirun", *RECIPE, f"optimizer.lr={rates}", f"hydra.sweep.dir='{quoted}'")
    command = f"exec {shlex.join([sys.executable, '-m', 'runner', *typed])} {redirections}"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(place / "cache")}
    done = subprocess.run(
        ["bash", "-c", command], cwd=place, env=environment | variables, capture_output=True, timeout=300, check=False
    )
    said = (done.stdout + done.stderr).decode(errors="replace")
    if done.returncode != expected or "Traceback" in said:
        return f"exit code {done.returncode}, {said[-600:]!a}"
    if expected == 2:
        return "its folder was made" if (place / folder).exists() else ""
    with (place / folder / "table.csv").open(newline="", encoding="utf-8") as file:
        states = [row["status"] for row in csv.DictReader(file)]
    if states != ["completed", "failed" if expected else "completed"]:
        return f"its cells became {states}"
    kept = (place / folder / "0" / "output.log").read_bytes()
    if b"Traceback" in kept:
        return f"cell 0 says {kept[-600:]!a}"
    return "" if (place / folder / "report.html").exists() else f"no report, {said[-600:]!a}"


if __name__ == "__main__":
    sys.exit(main())
