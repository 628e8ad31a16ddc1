"""How often the recommendation of a sweep is wrong, and what it costs: simulated sweeps of which the truth is known.

``python -m tests.report.decision_simulation`` prints the tables of ``docs/results``; the tests take fewer sweeps.  The
draws go through the functions that the report itself uses: ``weigh`` and ``take_look`` of the rule, ``paired`` and
``decide`` of the comparisons.
"""

import argparse
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from unittest import mock

import numpy as np

from runner.config.looks import count_looks, plan_looks
from runner.report.comparison import decide, withhold
from runner.report.decision_rule import Rule, begin, find_diverged, take_look, weigh
from runner.report.statistics import paired, rate_bounds

LEVEL = 0.05
FAILURE_RATE = 0.5
SEED = 20261130
CHUNK = 500


def normal(rng, shape):
    return rng.standard_normal(shape)


def heavy(rng, shape):
    """Student's t with three degrees of freedom, of variance one."""
    return rng.standard_t(3, shape) / np.sqrt(3)


def skewed(rng, shape, steepness=1.0):
    """Gamma, the long tail being one of bad runs; variance one, skewness 2 / sqrt(steepness)."""
    return -(rng.gamma(steepness, size=shape) - steepness) / np.sqrt(steepness)


def log_normal(rng, shape):
    """Of skewness 1.75, and a longer tail than the exponential distribution has."""
    return -(np.exp(0.5 * rng.standard_normal(shape)) - np.exp(0.125)) / np.sqrt(np.exp(0.5) - np.exp(0.25))


def none(rng, shape):
    return np.zeros(shape)


MILD = partial(skewed, steepness=4.0)


@dataclass(frozen=True)
class Setting:
    """Sweeps of one kind; qualities in points."""

    name: str
    deficits: tuple
    """By how much each recipe is worse than the best; the reference first."""
    costs: tuple = ()
    """Mean cost of each recipe; equal ones for none."""
    margin: float = 1.0
    spread: float = 0.5
    """Standard deviation of the difference of a pair."""
    noise: tuple = (normal,)
    """What draws each run's own part; the last one for all further recipes."""
    shared: float = 1.0
    """Standard deviation of what runs of a seed share."""
    cost_spread: float = 0.07
    """Relative standard deviation of the cost of a run."""
    images: int | None = None
    failures: tuple = ()
    """Rate at which each recipe's runs fail."""
    worst_fail: bool = False
    """Whether a recipe's worst runs are those that fail."""
    rare: tuple = ()
    """Of each recipe (rate, loss): so many points are lost in such a share of runs, which do not fail."""
    settings: int = 1
    """Learning rates, say, that are crossed with the seeds, and over which what a seed does to a recipe is shared."""
    folds: int | None = None
    """The repeats are so many folds or splits of the same data; the truth is about new data."""
    tested: float | None = None
    """Share of the data that a split tests; that of ``folds`` folds for none."""
    failure_rate: float = FAILURE_RATE
    max_seeds: int = 40
    fixed: int | None = None
    """A number of repeats that was fixed beforehand, with one look."""
    looks: tuple = ()
    """Others than those that are planned."""

    @property
    def correlation(self):
        """Of what two splits measure, as Nadeau and Bengio take it to be."""
        return self.tested or 1 / self.folds

    @property
    def rule(self):
        count = self.folds or self.fixed
        return Rule(
            margin=self.margin,
            level=LEVEL,
            looks=self.looks or ((count,) if count else plan_looks(self.max_seeds)),
            failure_rate=self.failure_rate,
            resolution=100 / self.images if self.images else 0.0,
            shared_training=self.correlation / (1 - self.correlation) if self.folds else 0.0,
        )

    @property
    def bad(self):
        """Recipes that must not be recommended; one at the margin counts, as the hardest case."""
        failing = np.array(self.failures or (0.0,) * len(self.deficits)) >= self.failure_rate
        return (self.behind >= self.margin) | failing

    @property
    def lost(self):
        """Rate at which the runs of each recipe fail or diverge."""
        none = [0.0] * len(self.deficits)
        return np.array(self.failures or none) + np.array([rate for rate, _ in self.rare] or none)

    @property
    def behind(self):
        """By how much the mean of each recipe is below the best."""
        return self.deficits + np.array([rate * loss for rate, loss in self.rare] or [0.0] * len(self.deficits))

    @property
    def best(self):
        """Number of the recipe that should be recommended: the cheapest of the others, the first of equal ones."""
        costs = np.array(self.costs or (1.0,) * len(self.deficits))
        return int(np.where(self.bad, np.inf, costs).argmin())


def draw(rng, setting, sweeps):
    """(quality, cost, failed) of ``sweeps`` sweeps, [sweeps, K, n, m]."""
    recipes, repeats, inner = len(setting.deficits), setting.rule.looks[-1], setting.settings
    shape = (sweeps, recipes, repeats, inner)
    drawers = [setting.noise[min(number, len(setting.noise) - 1)] for number in range(recipes)]
    own = np.stack([drawer(rng, (sweeps, repeats, 1)) for drawer in drawers], axis=1)
    if setting.folds:
        # each recipe's error on this data set, which its folds share
        rho = setting.correlation
        own = np.sqrt(1 - rho) * own + np.sqrt(rho) * rng.standard_normal((sweeps, recipes, 1, 1))
    own = own + (rng.normal(0, 0.3, shape) if inner > 1 else 0.0)
    quality = 90 - np.array(setting.deficits)[:, None, None] + setting.spread / np.sqrt(2) * own
    quality = quality + rng.normal(0, setting.shared, (sweeps, 1, repeats, 1))
    for number, (rate, loss) in enumerate(setting.rare):
        quality[:, number] -= loss * (rng.random(quality[:, number].shape) < rate)
    if setting.images:
        quality = np.round(quality / 100 * setting.images) / setting.images * 100
    costs = np.array(setting.costs or (1.0,) * recipes)[:, None, None]
    cost = costs * np.exp(rng.normal(0, setting.cost_spread, shape))
    failed = np.zeros(shape, bool)
    for number, rate in enumerate(setting.failures):
        if rate and setting.worst_fail:
            failed[:, number] = own[:, number] < np.quantile(own[:, number], rate)
        else:
            failed[:, number] = rng.random(failed[:, number].shape) < rate
    return np.where(failed, np.nan, quality), np.where(failed, np.nan, cost), failed


def judge(setting, quality, cost, failed):
    """The last state of each sweep, and the rate at which runs of each recipe may be lost by what is then said."""
    rule = setting.rule
    state, said = begin(quality.shape[:2]), np.ones(quality.shape[:2])
    for seeds in rule.looks:
        evidence = weigh(quality[..., :seeds, :], cost[..., :seeds, :], failed[..., :seeds, :], rule)
        state = take_look(state, evidence, rule, seeds)
        said = np.where((state.look == seeds)[:, None], said_rate(setting, quality, failed, seeds), said)
    return state, said


def said_rate(setting, quality, failed, seeds):
    """[sweeps, K]: up to which rate runs may fail or diverge by the sentence."""
    quality, failed = quality[..., :seeds, :], failed[..., :seeds, :]
    lost = failed | find_diverged(quality, setting.margin)
    runs = failed | ~np.isnan(quality)
    return rate_bounds(lost.sum(axis=(-2, -1)), runs.sum(axis=(-2, -1)), LEVEL)[1]


def claims(setting, quality, failed):
    """Whether "different", "equivalent", and that with a false bound, were said of each recipe but the first.

    [K - 1, sweeps] each.
    """
    rule = setting.rule
    found = np.zeros((3, quality.shape[1] - 1, quality.shape[0]), bool)
    for seeds in rule.looks:
        means = quality[..., :seeds, :].mean(axis=-1)
        kept = {"shared_training": rule.shared_training, "resolution": rule.resolution}
        estimates = [paired(means[:, number], means[:, 0], **kept) for number in range(1, means.shape[1])]
        different, equivalent, _, _ = decide(estimates, rule.margin, rule.level / count_looks(len(rule.looks)))
        lost = failed[..., :seeds, :].sum(axis=(-2, -1)).T
        runs = (failed | ~np.isnan(quality))[..., :seeds, :].sum(axis=(-2, -1)).T
        reliable = rate_bounds(lost, runs, rule.level)[1] <= rule.failure_rate
        equivalent = equivalent & reliable[1:] & reliable[:1]
        better = np.stack([estimate.mean > 0 for estimate in estimates])
        different, equivalent = withhold(different, equivalent, better, lost[1:], lost[:1])
        beyond = (setting.lost > said_rate(setting, quality, failed, seeds)).T
        found |= np.stack([different, equivalent, equivalent & (beyond[1:] | beyond[:1])])
    return found


@dataclass(frozen=True)
class Outcome:
    """Shares of sweeps, and means over them."""

    wrong: float
    right: float
    open: float
    seeds: float
    """Seeds a recipe when it ended."""
    runs: float
    """Of all recipes together."""
    false_different: float
    """NaN where no recipe equals the reference."""
    false_equivalent: float
    """NaN where no recipe differs from the reference by the margin."""
    false_sentence: float
    """Recommendations that do not hold as made: of the runs that neither fail nor diverge, and up to a rate."""
    false_equivalent_sentence: float
    """Likewise."""


def outcome(setting, sweeps, seed=SEED):
    """What becomes of ``sweeps`` sweeps."""
    rng = np.random.default_rng(seed)
    states, said, rates = [], [], []
    for _ in range(-(-sweeps // CHUNK)):
        quality, cost, failed = draw(rng, setting, min(CHUNK, sweeps))
        state, rate = judge(setting, quality, cost, failed)
        states.append(state)
        rates.append(rate)
        said.append(claims(setting, quality, failed))
    choice, decided, look = (np.concatenate([getattr(s, key) for s in states]) for key in ("choice", "decided", "look"))
    dropped = np.concatenate([state.dropped_at for state in states])
    different, equivalent, beyond = np.concatenate(said, axis=-1)
    rate = np.take_along_axis(np.concatenate(rates), choice[:, None], axis=1)[:, 0]
    deficits = np.array(setting.deficits, float)
    from_reference = np.abs(setting.behind[1:] - setting.behind[0])
    equal, apart = from_reference == 0, from_reference >= setting.margin
    others_apart = np.abs(deficits[1:] - deficits[0]) >= setting.margin
    used = np.where(dropped > 0, dropped, look[:, None]).sum(axis=1) * setting.settings
    return Outcome(
        wrong=(decided & setting.bad[choice]).mean(),
        right=(decided & (choice == setting.best)).mean(),
        open=1 - decided.mean(),
        seeds=look.mean(),
        runs=used.mean(),
        false_different=different[equal].any(axis=0).mean() if equal.any() else np.nan,
        false_equivalent=equivalent[apart].any(axis=0).mean() if apart.any() else np.nan,
        false_sentence=(decided & ((deficits >= setting.margin)[choice] | (setting.lost[choice] > rate))).mean(),
        false_equivalent_sentence=(beyond | (equivalent & others_apart[:, None])).any(axis=0).mean(),
    )


def fixed_design(setting, power, sweeps, most=160):
    """Seeds of the smallest design with one look that is right in a share ``power`` of sweeps; None beyond ``most``."""
    low, high = 4, most
    if outcome(replace(setting, fixed=high), sweeps).right < power:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if outcome(replace(setting, fixed=middle), sweeps).right >= power:
            high = middle
        else:
            low = middle
    return high


ONLY_ONE = Setting("2 at the margin, the cheaper alone varies, exponentially", (0, 1), (2, 1), noise=(none, skewed))
ALONE = (
    ONLY_ONE,
    replace(ONLY_ONE, name=f"{ONLY_ONE.name}, 10 seeds at most", max_seeds=10),
    replace(ONLY_ONE, name=f"{ONLY_ONE.name}, 5 seeds fixed beforehand", fixed=5),
    replace(ONLY_ONE, name="2 equal, the cheaper alone varies, exponentially", deficits=(0, 0)),
    replace(ONLY_ONE, name="2 at the margin, the cheaper alone varies, log-normally", noise=(none, log_normal)),
)
"""A tail that lies in one recipe, and in nothing else."""
SAFE = (
    Setting("2 equal recipes", (0, 0)),
    Setting("8 equal recipes", (0,) * 8),
    Setting("2, the cheaper at the margin", (0, 1), (2, 1)),
    Setting("3, both cheaper at the margin", (0, 1, 1), (3, 2, 1)),
    Setting("8, all cheaper at the margin", (0, *(1,) * 7), (8, 7, 6, 5, 4, 3, 2, 1)),
    Setting("4, cheaper ones worse by 0.6, 1 and 2 margins", (0, 0.6, 1, 2), (4, 3, 2, 1)),
    Setting("2 at the margin, spread 2 margins", (0, 1), (2, 1), spread=2.0),
    Setting("2 at the margin, heavy tails (t, 3 degrees)", (0, 1), (2, 1), noise=(heavy,)),
    Setting("2 at the margin, both skewed (exponential)", (0, 1), (2, 1), noise=(skewed,)),
    Setting("2 at the margin, the cheaper skewed (gamma, skewness 1)", (0, 1), (2, 1), noise=(normal, MILD)),
    Setting("2 at the margin, the cheaper skewed (exponential, skewness 2)", (0, 1), (2, 1), noise=(normal, skewed)),
    *ALONE,
    Setting("2 at the margin, unequal spreads (1 to 10)", (0, 1), (2, 1), noise=(none, normal)),
    Setting("2 at the margin, seeds without effect", (0, 1), (2, 1), shared=0.0),
    *(
        Setting(f"2 at the margin, {images:,} test images", (0, 1), (2, 1), images=images)
        for images in (100, 359, 10_000)
    ),
    Setting("2 at the margin, 2 learning rates crossed", (0, 1), (2, 1), settings=2),
    Setting("2 at the margin, 4 learning rates crossed", (0, 1), (2, 1), settings=4),
    Setting("2 at the margin, 5 folds", (0, 1), (2, 1), folds=5),
    Setting("2 at the margin, 10 folds", (0, 1), (2, 1), folds=10),
    Setting("2 at the margin, 5 folds of 5 seeds each", (0, 1), (2, 1), folds=5, settings=5),
    Setting("2 equal, 5 folds of 5 seeds each", (0, 0), folds=5, settings=5),
    Setting("2 equal, 20 splits of the same data, a fifth tested", (0, 0), folds=20, tested=0.2),
    Setting("2 equal, 10 folds", (0, 0), folds=10),
    Setting("2, half of the cheaper one's runs fail", (0, 0), (2, 1), failures=(0, 0.5)),
    Setting("4, half of the runs of three fail", (0, 0, 0, 0), (4, 3, 2, 1), failures=(0, 0.5, 0.5, 0.5)),
    Setting("2 at the margin, the cheaper one's worst 20 % fail", (0, 1), (2, 1), failures=(0, 0.2), worst_fail=True),
    Setting("2 at the margin, 3 seeds at most", (0, 1), (2, 1), max_seeds=3),
    Setting("2 at the margin, 5 seeds at most", (0, 1), (2, 1), max_seeds=5),
    Setting("2 at the margin, 5 seeds fixed beforehand", (0, 1), (2, 1), fixed=5),
    Setting("8 at the margin, 5 seeds fixed beforehand", (0, *(1,) * 7), (8, 7, 6, 5, 4, 3, 2, 1), fixed=5),
)
"""In which a wrong recommendation is asked to stay below 5 %."""

RARE = Setting("the cheaper loses 20 margins in 5 % of its runs", (0, 0), (2, 1), rare=((0, 0), (0.05, 20)), spread=0.2)
UNSEEN = (
    RARE,
    *(
        replace(RARE, name=f"in {rate:.0%} of its runs", rare=((0, 0), (rate, 20)))
        for rate in (0.01, 0.1, 0.2, 0.3, 0.4, 0.5)
    ),
    replace(RARE, name="in 5 %, 5 seeds fixed beforehand", fixed=5),
    replace(RARE, name="in 30 %, 10 seeds fixed beforehand", rare=((0, 0), (0.3, 20)), fixed=10),
    replace(RARE, name="both in 20 %", rare=((0.2, 20), (0.2, 20))),
    replace(RARE, name="in 20 %, and at the margin otherwise", deficits=(0, 1), rare=((0, 0), (0.2, 20)), spread=0.5),
    replace(RARE, name="in 5 %, failure_rate=0.05 and 80 seeds at most", failure_rate=0.05, max_seeds=80),
)
"""Runs that few others have not seen yet, and cannot know of."""

COSTLY = (
    Setting("3 equal, margin 1 spread", (0, 0, 0), (3, 2, 1), margin=0.5),
    Setting("3 equal, margin 2 spreads", (0, 0, 0), (3, 2, 1)),
    Setting("cheap ones worse by 2 and 0.3 margins, margin 2 spreads", (0, 0.3, 2), (3, 2, 1)),
    Setting("cheap ones worse by 4 and 0.6 margins, margin 1 spread", (0, 0.3, 2), (3, 2, 1), margin=0.5),
    Setting("8, one better by 3 margins", (3, 3, 3, 3, 3, 3, 3, 0)),
    Setting("8, one cheaper, five worse by 4 margins", (0, 0, 4, 4, 4, 4, 4, 0.2), (2, 2, 1, 1, 1, 1, 1, 1)),
)
"""Against a design of a fixed number of seeds that is right as often."""


FORMERLY = (5, 10, 20, 40)
"""Looks that double: fewer, so that each has a larger share of the level."""


def students_t():
    """Every bound by Student's t, whatever the skew."""
    return mock.patch("runner.report.statistics.Estimate._lower_tail", lambda self, *_: np.zeros(self.mean.shape))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sweeps", type=int, default=10_000)
    sweeps = parser.parse_args().sweeps
    head = "| sweeps | wrong | false different | false equivalent | right | undecided | seeds | runs |"
    print(f"{head}\n|---|---|---|---|---|---|---|---|")
    for setting in SAFE:
        print(f"| {setting.name} | {_row(outcome(setting, sweeps))} |", flush=True)
    print("\n| sweeps | wrong | by Student's t |\n|---|---|---|")
    for setting in SAFE:
        if setting.noise != (normal,) and setting.noise[0] is not heavy:
            found = []
            for way in (nullcontext(), students_t()):
                with way:
                    found.append(outcome(setting, sweeps).wrong)
            print(f"| {setting.name} | {found[0]:.2%} | {found[1]:.2%} |", flush=True)
    head = "the sentence is wrong | so is its equivalent | wrong by the mean of all runs | so is its equivalent"
    print(f"\n| sweeps | {head} | undecided | seeds |\n|---|---|---|---|---|---|---|")
    for setting in UNSEEN:
        one = outcome(setting, sweeps)
        rates = (one.false_sentence, one.false_equivalent_sentence, one.wrong, one.false_equivalent)
        print(f"| {setting.name} | {_rates(*rates)} | {one.open:.1%} | {one.seeds:.1f} |", flush=True)
    print("\n| sweeps | right | wrong | seeds | runs | looks at 5, 10, 20, 40: right | runs | fixed, as right | runs"
          " | ratio | 20 fixed: right | ratio |\n|---|---|---|---|---|---|---|---|---|---|---|---|")  # fmt: skip
    for setting in COSTLY:
        found, recipes = outcome(setting, sweeps), len(setting.deficits)
        few = max(sweeps // 5, 500)
        fewer, usual = outcome(replace(setting, looks=FORMERLY), few), outcome(replace(setting, fixed=20), few)
        seeds = fixed_design(setting, found.right, few)
        as_right = (
            "over 160 | - | -"
            if seeds is None
            else (f"{seeds} | {seeds * recipes} | {found.runs / (seeds * recipes):.2f}")
        )
        print(f"| {setting.name} | {found.right:.1%} | {found.wrong:.2%} | {found.seeds:.1f} | {found.runs:.0f} |"
              f" {fewer.right:.1%} | {fewer.runs:.0f} | {as_right} | {usual.right:.1%} |"
              f" {found.runs / (20 * recipes):.2f} |", flush=True)  # fmt: skip


def _rates(*rates):
    return " | ".join("-" if np.isnan(rate) else f"{rate:.2%}" for rate in rates)


def _row(found):
    rates = _rates(found.wrong, found.false_different, found.false_equivalent)
    return f"{rates} | {found.right:.1%} | {found.open:.1%} | {found.seeds:.1f} | {found.runs:.0f}"


if __name__ == "__main__":
    main()
