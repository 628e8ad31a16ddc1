"""Kill runs at random moments and compare what they end with: ``make faults``.

Each trial starts a run, ends it with ``kill -9``, starts the same run again until it is done, and compares everything
that does not depend on the clock with a run that nobody killed.  Half of the moments are uniform over the run's life,
half are aimed at saves: just before a file operation below ``checkpoints/`` that is drawn uniformly from all of them.
In every second pair of trials the run that goes on is killed once more in the same way.
Then the negative controls: a resume that leaves one thing out must end differently, each time.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.faults import forked_runs
from tests.faults.controls import CONTROLS, check_controls
from tests.faults.final_state import differences, final_state
from tests.faults.recipes import COMMON, RECIPES


def kill_recipe(name, kills, folder, seed=0):
    """Kill ``kills`` runs of a recipe; returns the figures, with a line for each trial that went wrong."""
    draw = random.Random(f"{name} {seed}")
    config = forked_runs.configure((*COMMON, *RECIPES[name]))
    whole = folder / "whole"
    forked_runs.finish(config, whole)
    begun = time.monotonic()
    counter = folder / "operations"
    forked_runs.finish(config, folder / "counted", forked_runs.at_file_operation(-1, tell=counter))
    life, operations = time.monotonic() - begun, int(counter.read_text())
    expected = final_state(whole)
    wrong = [f"not repeatable: {path}" for path in differences(final_state(folder / "counted"), expected)]
    found, equal, tries, again = Counter(), 0, 0, 0

    def killed(run_dir, aimed):
        """Whether the kill came before the run was done, and when it was sent."""
        moment = draw.randrange(1, operations + 1) if aimed else draw.uniform(0, life)
        pid = forked_runs.start(config, run_dir, forked_runs.at_file_operation(moment) if aimed else None)
        if not aimed:
            forked_runs.kill_after(pid, moment, draw)
        return forked_runs.wait(pid) != 0, f"{'operation' if aimed else 'second'} {moment:.4g}"

    while tries < kills:
        run_dir = folder / f"killed{tries}"
        in_time, moment = killed(run_dir, tries % 2 == 1)
        if not in_time:
            shutil.rmtree(run_dir)  # draw again
            continue
        found[_found(run_dir)] += 1
        label = f"{name}: {moment} (trial {tries})"
        if tries % 4 >= 2:
            in_time, moment = killed(run_dir, tries % 2 == 1)
            again += in_time
            label += f", then {moment}"
        tries += 1
        try:
            forked_runs.finish(config, run_dir)
            differing = differences(final_state(run_dir), expected)
        except Exception as error:
            differing = [f"{type(error).__name__}: {error}"]
        equal += not differing
        if differing:
            wrong.append(f"{label}: {len(differing)} differences, {differing[:4]}")
    return {
        "recipe": name, "kills": tries, "killed again": again, "equal": equal, "seconds of a run": round(life, 2),
        "file operations of its saves": operations, "found": dict(sorted(found.items())), "wrong": wrong,
    }  # fmt: skip


def _found(run_dir):
    """What the kill has left behind."""
    checkpoints = run_dir / "checkpoints"
    if not checkpoints.exists():
        return "no checkpoint yet"
    if any(path.name.startswith(".") for path in checkpoints.iterdir()):
        return "half a save"
    steps = sorted(path.name for path in checkpoints.glob("step_*"))
    last = checkpoints / "last"
    if not last.exists() or last.resolve().name != steps[-1] or len(steps) > 3:
        return "a save without its links"
    return "between saves"


def main():
    """Print a line a recipe and end with 0 only when every killed run ended as the whole one."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.campaign", description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="moments a recipe")
    parser.add_argument("--recipes", nargs="*", default=list(RECIPES), choices=list(RECIPES), metavar="NAME")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    arguments = parser.parse_args()
    figures, controls = [], {}
    with tempfile.TemporaryDirectory(prefix="recipe-runner-faults-") as folder:
        forked_runs.prepare(Path(folder) / "cache")
        for number, name in enumerate(arguments.recipes):
            begun = time.monotonic()
            figure = kill_recipe(name, arguments.kills, Path(folder) / str(number), arguments.seed)
            figures.append(figure)
            print(
                f"{name:25} {figure['equal']}/{figure['kills']} equal, {figure['killed again']} of them killed twice,"
                f" {time.monotonic() - begun:.0f} s, a run {figure['seconds of a run']} s, {figure['found']}",
                flush=True,
            )
            for line in figure["wrong"]:
                print(f"  {line}", flush=True)
        for number, name in enumerate(arguments.recipes):
            if name not in CONTROLS:
                continue
            controls[name] = check_controls(
                name,
                Path(folder) / f"controls of {name}",
                whole=Path(folder) / str(number) / "whole",
                operations=figures[number]["file operations of its saves"],
            )
            told = ", ".join(f"{control} {count}" for control, count in controls[name].items())
            print(f"{name:25} differences with this left out: {told}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps({"kills": figures, "controls": controls}, indent=1))
    equal, kills = sum(figure["equal"] for figure in figures), sum(figure["kills"] for figure in figures)
    print(f"{equal}/{kills} killed runs ended with the bits of a run that nobody killed")
    telling = all(
        (count == 0) == (control == "nothing") for found in controls.values() for control, count in found.items()
    )
    return 0 if telling and equal == kills and not any(figure["wrong"] for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
