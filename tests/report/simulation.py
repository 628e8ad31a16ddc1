"""How often the statistics of a report are wrong: simulated sweeps of which the truth is known.

``python -m tests.report.simulation`` prints the table of ``docs/results``; the tests take fewer repeats.  The draws go
through the functions that the report itself uses.
"""

import argparse
import math
from dataclasses import dataclass

import numpy as np

from runner.report.comparison import decide
from runner.report.statistics import POWER, paired, power_to_show_equivalence, runs_needed, unpaired

MARGIN, CONFIDENCE = 0.2, 0.95
LEVEL = 1 - CONFIDENCE
SEED = 20261123


@dataclass(frozen=True)
class Setting:
    """Sweeps of one kind: ``recipes`` are held against one reference, each run with ``seeds`` seeds."""

    name: str
    recipes: int = 1
    seeds: int = 5
    spread: float = 0.15
    """Standard deviation, in points, of what a run adds of its own; as much again is shared by the runs of a seed."""
    images: int | None = None
    """Size of the test split: accuracies are multiples of 1/images; None for accuracies without steps."""
    shared: bool = True
    """Whether recipes share their seeds."""


SETTINGS = (
    Setting("paired, 5 seeds"),
    Setting("paired, 2 seeds", seeds=2),
    Setting("paired, 30 seeds", seeds=30),
    Setting("paired, 5 seeds, 359 test images", images=359, spread=0.6),
    Setting("not paired (Welch), 5 seeds", shared=False),
    Setting("4 recipes against one, 5 seeds (Holm)", recipes=4),
    Setting("8 recipes against one, 3 seeds, 10,000 test images (Holm)", recipes=8, seeds=3, images=10_000),
)


def draw(rng, setting, difference, repeats):
    """Accuracies in percent [repeats, recipes + 1, seeds], the reference first; the others lie ``difference`` above."""
    shape = (repeats, setting.recipes + 1, setting.seeds)
    of_seed = rng.normal(0, setting.spread, (repeats, 1, setting.seeds)) if setting.shared else 0.0
    values = 97.0 + of_seed + rng.normal(0, setting.spread, shape)
    values[:, 1:] += difference
    if setting.images is not None:
        values = np.round(values / 100 * setting.images) / setting.images * 100
    return values


def judge(setting, values):
    """Of ``draw``: estimates of each recipe, and what is shown of it."""
    test = paired if setting.shared else unpaired
    estimates = [test(values[:, number], values[:, 0]) for number in range(1, setting.recipes + 1)]
    different, equivalent, _, _ = decide(estimates, MARGIN, LEVEL)
    return estimates, different, equivalent


def rates(setting, repeats, seed=SEED):
    """Shares of sweeps with a false "different" (equal recipes) and a false "equivalent" (at the margin); coverage."""
    rng = np.random.default_rng(seed)
    estimates, different, _ = judge(setting, draw(rng, setting, 0.0, repeats))
    low, high = estimates[0].interval(CONFIDENCE)
    measured = ~np.isnan(low)  # accuracies in steps can leave no spread, and then there is no interval
    covered = ((low <= 0) & (high >= 0))[measured].mean()
    _, _, equivalent = judge(setting, draw(rng, setting, MARGIN, repeats))
    return different.any(axis=0).mean(), equivalent.any(axis=0).mean(), covered


def power_of_the_advice(spread, comparisons, repeats, seed=SEED):
    """(seeds advised for a known ``spread`` of a run, share of sweeps of equal recipes that then show equivalence)."""
    deviation = spread * math.sqrt(2)
    seeds = int(runs_needed(deviation, MARGIN, LEVEL / comparisons))
    setting = Setting("", recipes=comparisons, seeds=seeds, spread=spread)
    _, _, equivalent = judge(setting, draw(np.random.default_rng(seed), setting, 0.0, repeats))
    return seeds, equivalent.mean()


def advice_of_pilots(spread, pilot, repeats, seed=SEED):
    """Seeds that pilots of ``pilot`` seeds advise: 10 %, 50 % and 90 % of them stay below these."""
    setting = Setting("", seeds=pilot, spread=spread)
    (estimate,), _, _ = judge(setting, draw(np.random.default_rng(seed), setting, 0.0, repeats))
    return np.quantile(runs_needed(estimate.spread, MARGIN, LEVEL), (0.1, 0.5, 0.9))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=100_000)
    repeats = parser.parse_args().repeats
    print("| sweeps | false different | false equivalent at the margin | intervals that cover |")
    print("|---|---|---|---|")
    for setting in SETTINGS:
        few, many = rates(setting, 1000), rates(setting, repeats)
        print(f"| {setting.name} | " + " | ".join(f"{a:.1%} / {b:.2%}" for a, b in zip(few, many, strict=True)) + " |")
    print("\n| spread of a run | comparisons | seeds advised | share that shows the equivalence (asked 80 %) |")
    print("|---|---|---|---|")
    for spread in (0.05, 0.1, 0.15, 0.3):
        for comparisons in (1, 4):
            seeds, shown = power_of_the_advice(spread, comparisons, max(repeats // 10, 1000))
            print(f"| {spread} pp | {comparisons} | {seeds} | {shown:.1%} |")
    print("\n| pilot | seeds advised: 10 %, median, 90 % (known spread: 12) |")
    print("|---|---|")
    for pilot in (2, 3, 5, 10):
        print(f"| {pilot} seeds | {', '.join(f'{q:.0f}' for q in advice_of_pilots(0.15, pilot, 2000))} |")
    exact = float(power_to_show_equivalence(12, MARGIN / (0.15 * math.sqrt(2)), LEVEL))
    print(f"\nformula at 12 pairs: {exact:.1%}; asked {POWER:.0%}")


if __name__ == "__main__":
    main()
