"""Searches under fire, and what pruning saves: ``make searches``.

1. A search of 24 trials, three of which diverge, in a journal file: its worker gets ``kill -9`` twice, each time
   with a trial under way, and started again.
2. The same by two workers on one PostgreSQL study, each in a folder of its own, and once more with one of them killed.
3. The same search with and without a pruner, on handwritten digits, ten times with other seeds: epochs trained,
   and the best value.  The samplers draw at random from one seed, so that both try the same values.
"""

import argparse
import contextlib
import io
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from runner.config.compose import Composer
from tests.conftest import ROOT
from tests.search import postgres, workers
from tests.search.searches import search, study_in

TRIALS = 24
WHOLE = {
    "trials": list(range(TRIALS)),
    "states": {"COMPLETE": 21, "FAIL": 3},
    "values tried": TRIALS,
    "folders": TRIALS,
    "wrong": [],
}
PRUNERS = ("median", "halving", "hyperband")
REPEATS = 10
COMPARED = (
    "model=mlp",
    "tracker=none",
    "hardware=cpu",
    "hardware.threads=1",
    "trainer.epochs=9",
    "optimizer.lr=tag(log,interval(0.0003,3.0))",
    "optimizer.momentum=interval(0.0,0.95)",
    "hydra/sweeper/sampler=random",
    f"hydra.sweeper.n_trials={TRIALS}",
)


def kill_one_worker(folder, kills=2):
    """The account of a search whose only worker is killed ``kills`` times."""
    draw = random.Random(0)
    storage, sweep_dir = folder / "sweep" / "search.journal", folder / "sweep"
    hit = 0
    for kill in range(kills):
        doomed = workers.start(folder, storage, TRIALS, sweep_dir=sweep_dir)
        hit += workers.kill_in_a_trial(doomed, sweep_dir, storage, finished=draw.randrange(1, 10) + 10 * kill)
    workers.finish(workers.start(folder, storage, TRIALS, sweep_dir=sweep_dir), folder)
    found = workers.account(storage, [sweep_dir])
    rows = found.pop("cells in the tables") == [str(number) for number in range(TRIALS)]
    return {"kills in a trial": hit, **found, "as asked": hit == kills and rows and found == WHOLE}


def two_workers(folder, url, kill):
    """The account of two workers on one database; with ``kill`` the first is killed after its first trials."""
    mine, other = folder / "one", folder / "two"
    pair = [workers.start(folder, url, TRIALS, sweep_dir=sweep_dir) for sweep_dir in (mine, other)]
    hit = kill and workers.kill_in_a_trial(pair[0], mine, url, finished=6)
    for worker in pair[hit:]:
        workers.finish(worker, folder)
    found = workers.account(url, [mine, other])
    del found["cells in the tables"]
    begun = [(path.parent.name, json.loads(path.read_text())) for d in (mine, other) for path in d.glob("*/run.json")]
    ended = [name for name, run in begun if run["status"] != "running"]
    shares = [sum(1 for _ in sweep_dir.glob("*/run.json")) for sweep_dir in (mine, other)]
    right = (
        hit == kill and len(ended) == len(set(ended)) == TRIALS and len(begun) - len(ended) <= hit and min(shares) > 0
    )
    return {
        "runs begun by each": shares,
        "cut off": len(begun) - len(ended),
        **found,
        "as asked": right and found == WHOLE,
    }


def compare_pruners(folder, repeats):
    """Epochs trained and best value of the same search under each pruner, ``repeats`` times."""
    composer = Composer(caller=ROOT)
    found = {pruner: {"epochs": [], "best": [], "pruned": []} for pruner in ("none", *PRUNERS)}
    for repeat in range(repeats):
        for pruner, figures in found.items():
            here = folder / f"{pruner}{repeat}"
            seeds = (f"hydra.sweeper.sampler.seed={repeat}", f"seed={repeat}")
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                search(composer, here, *COMPARED, *seeds, f"hydra/sweeper/pruner={pruner}", base=())
            study = study_in(here)
            figures["epochs"].append(sum(trial.user_attrs["epochs"] for trial in study.trials))
            figures["best"].append(study.best_value)
            figures["pruned"].append(sum(trial.state.name == "PRUNED" for trial in study.trials))
            shutil.rmtree(here)
    return found


def tell_pruners(found):
    """A line a pruner; whether each saves 40 % of the epochs, with a best value that is no worse within its spread."""
    whole, right = found["none"], True
    for pruner, figures in found.items():
        saved = 1 - sum(figures["epochs"]) / sum(whole["epochs"])
        lost = [before - now for before, now in zip(whole["best"], figures["best"], strict=True)]
        spread = statistics.stdev(whole["best"])
        best = f"{statistics.mean(figures['best']):.4f} ± {statistics.stdev(figures['best']):.4f}"
        print(
            f"{pruner:10} {sum(figures['epochs']):6.0f} epochs, saved {saved:6.1%}, pruned {sum(figures['pruned'])},"
            f" best val_accuracy {best}, loss against none {statistics.mean(lost):+.4f} (worst {max(lost):+.4f}),"
            f" spread of none {spread:.4f}"
        )
        right &= pruner == "none" or (saved >= 0.4 and statistics.mean(lost) <= spread)
    return right


def main():
    """Print what was found and end with 0 only when it is what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.search.campaign", description=__doc__)
    parser.add_argument("--parts", nargs="*", default=["kills", "workers", "pruning"])
    parser.add_argument("--repeats", type=int, default=REPEATS, help="of the comparison of pruners")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    arguments = parser.parse_args()
    figures, right = {}, True
    with tempfile.TemporaryDirectory(prefix="recipe-runner-searches-") as folder:
        begun = time.monotonic()
        if "kills" in arguments.parts:
            figures["one worker, killed twice"] = kill_one_worker(Path(folder) / "kills")
        if "workers" in arguments.parts:
            if problem := postgres.install():
                sys.exit(problem)
            for kill in (False, True):
                with postgres.server() as url:
                    name = f"two workers on PostgreSQL, {'one killed' if kill else 'none killed'}"
                    figures[name] = two_workers(Path(folder) / name.replace(" ", "-").replace(",", ""), url, kill)
        for name, found in figures.items():
            print(f"{name}: {found}", flush=True)
            right &= found["as asked"]
        print(f"{time.monotonic() - begun:.0f} s", flush=True)
        if "pruning" in arguments.parts:
            figures["pruning"] = compare_pruners(Path(folder), arguments.repeats)
            right &= tell_pruners(figures["pruning"])
            print(f"{time.monotonic() - begun:.0f} s", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
