"""How often the recommendation of a sweep is wrong, and what it costs: simulated sweeps of which the truth is known.

``python -m tests.report.decision_simulation`` prints the tables of ``docs/results``; the tests take fewer sweeps.  The
draws go through the functions that the report itself uses: ``weigh`` and ``take_look`` of the rule, ``decide`` of the
comparisons.
"""

from dataclasses import dataclass, field

import numpy as np

from runner.config.looks import plan_looks
from runner.report.decision_rule import Rule, begin, take_look, weigh

LEVEL = 0.05
SEED = 20261130
CHUNK = 500


def normal(rng, shape):
    return rng.standard_normal(shape)


def heavy(rng, shape):
    """Student's t with three degrees of freedom, of variance one."""
    return rng.standard_t(3, shape) / np.sqrt(3)


def skewed(rng, shape, shape_parameter=1.0):
    """Gamma, turned over the long tail being one of bad runs; variance one, skewness 2 / sqrt(shape)."""
    return -(rng.gamma(shape_parameter, size=shape) - shape_parameter) / np.sqrt(shape_parameter)


@dataclass(frozen=True)
class Setting:
    """Sweeps of one kind; qualities in points, margin 1 unless it says otherwise."""

    name: str
    deficits: tuple
    """By how much each recipe is worse than the best; the reference first."""
    costs: tuple = ()
    """Mean cost of each recipe; equal ones for none."""
    margin: float = 1.0
    spread: float = 0.5
    """Standard deviation of the difference of a pair."""
    noise: tuple = (normal,)
    """What draws a run's own part; the last one for all further recipes."""
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
    """Learning rates, say, that are crossed with the seeds; what a seed does to a recipe is shared over them."""
    folds: int | None = None
    """Repeats are folds, which share their training data."""
    max_seeds: int = 40
    fixed: int | None = None
    """A number of seeds that was fixed beforehand, with one look."""
    claim: str = ""
    extra: dict = field(default_factory=dict)

    @property
    def rule(self):
        looks = (self.fixed,) if self.fixed else plan_looks(self.max_seeds)
        return Rule(
            margin=self.margin,
            level=LEVEL,
            looks=looks,
            failure_rate=0.5,
            resolution=100 / self.images if self.images else 0.0,
            shared_training=1 / (self.folds - 1) if self.folds else 0.0,
        )


def draw(rng, setting, sweeps):
    """(quality, cost, failed) of ``sweeps`` sweeps, [sweeps, K, n, m]."""
    recipes, seeds, inner = len(setting.deficits), setting.rule.looks[-1], setting.settings
    shape = (sweeps, recipes, seeds, inner)
    own = np.stack(
        [
            setting.noise[min(number, len(setting.noise) - 1)](rng, (sweeps, seeds, 1 if inner > 1 else inner))
            + (rng.normal(0, 0.3, (sweeps, seeds, inner)) if inner > 1 else 0.0)
            for number in range(recipes)
        ],
        axis=1,
    )
    quality = 90 - np.array(setting.deficits)[:, None, None] + setting.spread / np.sqrt(2) * own
    quality = quality + rng.normal(0, setting.shared, (sweeps, 1, seeds, 1))
    for number, (rate, loss) in enumerate(setting.rare):
        quality[:, number] -= loss * (rng.random(quality[:, number].shape) < rate)
    if setting.images:
        quality = np.round(quality / 100 * setting.images) / setting.images * 100
    costs = np.array(setting.costs or (1.0,) * recipes)[:, None, None]
    cost = costs * np.exp(rng.normal(0, setting.cost_spread, shape))
    failed = np.zeros(shape, bool)
    for number, rate in enumerate(setting.failures):
        if setting.worst_fail:
            limit = np.quantile(own[:, number], rate) if rate else -np.inf
            failed[:, number] = own[:, number] < limit
        else:
            failed[:, number] = rng.random(failed[:, number].shape) < rate
    quality, cost = np.where(failed, np.nan, quality), np.where(failed, np.nan, cost)
    return np.broadcast_to(quality, shape), cost, failed


def judge(setting, quality, cost, failed):
    """The last state of each sweep."""
    rule = setting.rule
    state = begin(quality.shape[:2])
    for seeds in rule.looks:
        evidence = weigh(quality[..., :seeds, :], cost[..., :seeds, :], failed[..., :seeds, :], rule)
        state = take_look(state, evidence, rule, seeds)
    return state
