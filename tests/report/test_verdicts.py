"""What is said of sweeps whose figures are known."""

import numpy as np
import pytest

from runner.config.schema import ComparisonConfig
from runner.errors import RequestError
from runner.report.budgets import describe_budget, warnings
from runner.report.cells import read_sweep
from runner.report.comparison import Verdict
from runner.report.findings import find
from runner.report.question import configured
from runner.report.verdict import describe_comparison
from tests.report.sweep_folders import write_sweep

SPREAD = np.array([0.3, -0.2, 0.1, -0.3, 0.1])  # of the seeds, in points; what recipes share


def found(tmp_path, recipes, **question):
    """Findings of a sweep of {precision: accuracies in percent, by seed}."""
    cells = [
        (f"precision={name} seed={seed}", accuracy / 100)
        for name, accuracies in recipes.items()
        for seed, accuracy in enumerate(accuracies)
    ]
    write_sweep(tmp_path, cells)
    return find(read_sweep(tmp_path), ComparisonConfig(**question))


@pytest.mark.parametrize(
    ("noise", "verdict", "words"),
    [
        (
            [0.02, -0.03, 0.0, 0.01, -0.02],
            Verdict.EQUIVALENT,
            "equivalent within 0.20 pp, -0.00 pp (95% interval -0.03",
        ),
        ([-1.0, -1.1, -0.9, -1.2, -0.9], Verdict.DIFFERENT, "different, bf16 is lower, -1.02 pp"),
        ([0.05, 0.06, 0.04, 0.05, 0.07], Verdict.SLIGHT, "higher, but by less than 0.20 pp: a real difference"),
        (
            [0.5, -0.6, 0.2, 0.1, -0.1],
            Verdict.UNDECIDED,
            "not enough runs: about 41 seeds a cell (21 to 207 by what is known) needed to show",
        ),
        (
            [0.1, -0.1, 0.06, -0.02, -0.05],
            Verdict.UNDECIDED,
            "not enough runs: the interval lies within 0.20 pp, and a claim asks for more than that",
        ),
        ([0.0, 0.0, 0.0, 0.0, 0.0], Verdict.IDENTICAL, "identical, the same test accuracy in each of 5 pairs"),
    ],
)
def test_each_verdict(tmp_path, noise, verdict, words):
    findings = found(tmp_path, {"fp32": 97 + SPREAD, "bf16": 97 + SPREAD + noise})
    (comparison,) = findings.comparisons
    assert comparison.verdict is verdict
    assert comparison.runs == (5, 5)
    assert words in describe_comparison(comparison, findings.question)
    assert "against fp32" in findings.verdict


@pytest.mark.parametrize("by_chance", [[-1.0, -1.1, -0.9, -1.2, -0.9], [0.02, -0.03, 0.0, 0.01, -0.02]])
def test_recipes_of_one_plan_are_never_called_different(tmp_path, by_chance):
    """A key without effect: whatever the statistics say, the difference is noise; so between others than the first."""
    accuracies = {
        "fp32": 97 + SPREAD,
        "bf16": 90 + 1.5 * SPREAD,
        "tf32": 97 + SPREAD + by_chance,
        "fp16": 90 + 2 * SPREAD,
    }
    cells = [
        (f"precision={name} seed={seed}", accuracy / 100, {"identity": f"{name in ('fp32', 'tf32')}{seed}"})
        for name, values in accuracies.items()
        for seed, accuracy in enumerate(values)
    ]
    findings = find(read_sweep(write_sweep(tmp_path, cells)))
    verdicts = {one.recipe.label: one.verdict for one in findings.comparisons}
    assert verdicts == {"bf16": Verdict.DIFFERENT, "tf32": Verdict.SAME, "fp16": Verdict.DIFFERENT}
    assert "fp32 and tf32 are the same computation (one plan identity)" in findings.verdict
    assert "bf16 and fp16 are the same computation" in findings.verdict


def test_one_plan_in_other_settings_or_for_some_seeds_is_not_one_computation(tmp_path):
    cells = [
        (f"precision={name} seed={seed}", 0.9 + seed / 100, {"identity": "a" if seed == 0 else f"{name}{seed}",
                                                            "curve": (2.0, 1.0 + (name == "bf16") / 2**40)})
        for name in ("fp32", "bf16")
        for seed in (0, 1)
    ]  # fmt: skip
    findings = find(read_sweep(write_sweep(tmp_path, cells)))
    assert "same computation" not in findings.verdict
    assert "bit by bit" not in findings.verdict


def test_a_key_of_the_plan_without_effect_shows_in_equal_records(tmp_path):
    """Such as ``model.norm`` of a model without norms: the plans differ, and nothing that was computed does."""
    findings = found(tmp_path, {"fp32": [97.0, 96.0], "bf16": [97.0, 96.0]})
    assert "fp32 and bf16 are equal in every figure that was recorded, bit by bit" in findings.verdict


def test_the_pairs_share_their_seed(tmp_path):
    """The seeds differ far more than the recipes do; only pairs can show it."""
    recipes = {"fp32": 97 + 10 * SPREAD, "bf16": 97 + 10 * SPREAD + [-0.5, -0.6, -0.4, -0.5, -0.6]}
    assert found(tmp_path / "paired", recipes).comparisons[0].verdict is Verdict.DIFFERENT
    cells = [(f"precision=fp32 seed={seed}", value / 100) for seed, value in enumerate(recipes["fp32"])]
    cells += [(f"precision=bf16 seed={seed + 5}", value / 100) for seed, value in enumerate(recipes["bf16"])]
    (comparison,) = find(read_sweep(write_sweep(tmp_path / "apart", cells))).comparisons
    assert not comparison.paired
    assert comparison.verdict is Verdict.UNDECIDED


def test_only_shared_seeds_are_compared(tmp_path):
    cells = [(f"precision=fp32 seed={seed}", 0.97 + seed / 1000) for seed in range(4)]
    cells += [(f"precision=bf16 seed={seed}", 0.97 + seed / 999) for seed in range(2, 6)]
    (comparison,) = find(read_sweep(write_sweep(tmp_path, cells))).comparisons
    assert comparison.runs == (2, 2)
    assert comparison.paired


def test_one_run_a_recipe_shows_nothing(tmp_path):
    findings = found(tmp_path, {"fp32": [97.0], "fp16": [96.0], "bf16": [95.5]})
    assert {one.verdict for one in findings.comparisons} == {Verdict.UNDECIDED}
    assert findings.verdict.startswith("One run a recipe: test accuracy 95.50 % (bf16) to 97.00 % (fp32).")
    assert "a spread cannot be known" in findings.verdict


def test_the_same_difference_in_each_pair_is_no_spread(tmp_path):
    findings = found(tmp_path, {"fp32": 97 + SPREAD[:3], "bf16": 97.5 + SPREAD[:3]})
    assert "every pair differs by the same amount" in findings.verdict


def test_several_verdicts_in_one_sentence(tmp_path):
    recipes = {
        "fp32": 97 + SPREAD,
        "bf16": 97 + SPREAD + [0.02, -0.03, 0.0, 0.01, -0.02],
        "fp16": 97 + SPREAD + [-1.0, -1.1, -0.9, -1.2, -0.9],
        "fp64": 97 + SPREAD + [0.5, -0.6, 0.2, 0.1, -0.1],
    }
    findings = found(tmp_path, recipes)
    assert findings.verdict.startswith("So far fp32 leads: no difference in seconds from bf16 is shown; test accuracy")
    assert findings.verdict.endswith(
        "In test accuracy, against fp32: bf16 is equivalent within 0.20 pp; different: fp16 by -1.02 pp; fp64: not"
        " enough runs, about 56 seeds a cell (28 to 281 by what is known) needed to show equivalence within 0.20 pp if"
        " there is no difference (power 80%)."
    )
    alone = found(tmp_path / "alone", {name: recipes[name] for name in ("fp32", "fp64")})
    # three comparisons share the level that one has to itself
    assert findings.comparisons[2].seeds_needed > alone.comparisons[0].seeds_needed


def test_another_key_is_crossed_and_averaged_within_a_seed(tmp_path):
    cells = [
        (f"precision={name} optimizer.lr={lr} seed={seed}", 0.97 + lr + (seed + 1) * 0.001 * (name == "bf16"))
        for name in ("fp32", "bf16")
        for lr in (0.01, 0.02)
        for seed in range(3)
    ]
    sweep = read_sweep(write_sweep(tmp_path, cells))
    by_precision = find(sweep, ComparisonConfig(by=["precision"]))
    (comparison,) = by_precision.comparisons
    assert not comparison.depends_on
    assert comparison.runs == (3, 3)
    assert comparison.mean == pytest.approx(0.2)
    assert by_precision.grouping.crossed == ("optimizer.lr", "seed")
    everything = find(sweep)
    assert [recipe.label for recipe in everything.grouping.recipes][:2] == ["precision=fp32, lr=0.01",
                                                                           "precision=fp32, lr=0.02"]  # fmt: skip
    alone = find(sweep, ComparisonConfig(by=["optimizer.lr"], reference="0.02"))
    assert alone.comparisons[0].reference.label == "lr=0.02"
    assert alone.comparisons[0].mean == pytest.approx(-1.0)


def test_a_key_that_goes_with_the_recipe_makes_no_blocks(tmp_path):
    cells = [
        (f"data.batch_size={batch} trainer.accumulation_steps={64 // batch} seed={seed}", 0.97 + seed / 1000)
        for batch in (64, 32)
        for seed in range(2)
    ]
    findings = find(read_sweep(write_sweep(tmp_path, cells)), ComparisonConfig(by=["data.batch_size"]))
    assert findings.comparisons[0].runs == (2, 2)
    assert findings.grouping.confounded == ("trainer.accumulation_steps",)
    assert "`trainer.accumulation_steps` changed together with the recipe" in warnings(findings.grouping)[0]


def test_cells_that_did_not_end_well(tmp_path):
    cells = [
        ("precision=fp32 seed=0", "failed", {"error": "step 2: the loss is not finite"}),
        ("precision=bf16 seed=0", 0.97),
        ("precision=bf16 seed=1", 0.98),
        ("precision=fp16 seed=0", "running"),
        ("precision=fp16 seed=1", "not_started"),
    ]
    findings = find(read_sweep(write_sweep(tmp_path, cells)))
    assert findings.verdict.startswith(
        "1 of 5 cells failed and 2 of the 5 cells begun have not ended. Only bf16 has a result"
    )
    assert findings.comparisons == ()
    # asked for by name, a reference that failed stays the reference
    named = find(read_sweep(tmp_path), ComparisonConfig(reference="fp32"))
    assert named.grouping.recipes[0].label == "fp32"


def test_nothing_but_failures(tmp_path):
    write_sweep(tmp_path, [(f"seed={seed}", "failed") for seed in range(3)])
    expected = "3 of 3 cells failed. Nothing can be compared yet: no run has ended with a test accuracy."
    assert find(read_sweep(tmp_path)).verdict == expected


def test_a_recipe_by_itself_has_an_interval(tmp_path):
    findings = find(read_sweep(write_sweep(tmp_path, [(f"seed={seed}", 0.97 + seed / 100) for seed in range(3)])))
    expected = "One recipe, 3 runs: test accuracy 98.00 % on average (95% interval 95.52 to 100.00 %)."
    assert findings.verdict == expected


@pytest.mark.parametrize(
    ("fp16", "words"),
    [
        ({}, "Equal budgets: every run made 100 updates and saw 6,400 training examples."),
        ({"steps": 50}, "Equal examples, unequal updates: 6,400 training examples a run, in 50 to 100 updates."),
        ({"steps": 50, "examples": 320}, "Equal seconds (within 5%, 10 s), unequal work"),
        ({"steps": 50, "examples": 320, "seconds": 20.0}, "Unequal budgets: 50 to 100 updates and 3,200 to 6,400"),
    ],
)
def test_budgets_are_named(tmp_path, fp16, words):
    cells = [("precision=fp32 seed=0", 0.97), ("precision=fp16 seed=0", 0.97, fp16)]
    findings = find(read_sweep(write_sweep(tmp_path, cells)))
    assert words in describe_budget(findings.grouping)


def test_other_data_are_pointed_out(tmp_path):
    cells = [("precision=fp32 seed=0", 0.97), ("precision=fp16 seed=0", 0.97, {"fingerprint": "e"})]
    findings = find(read_sweep(write_sweep(tmp_path, cells)))
    assert warnings(findings.grouping) == ["The recipes ran on different training and test data."]


def front_of(tmp_path, recipes):
    """The front of {precision: (accuracies in percent, seconds, MiB; each by seed)}."""
    cells = [
        (f"precision={name} seed={seed}", value / 100, {"seconds": time, "mib": mib})
        for name, figures in recipes.items()
        for seed, (value, time, mib) in enumerate(zip(*figures, strict=True))
    ]
    return find(read_sweep(write_sweep(tmp_path, cells))).front


def test_the_front(tmp_path):
    memory = [500] * 5
    front = front_of(
        tmp_path,
        {
            "fp32": (98 + SPREAD, [20, 21, 20, 22, 20], memory),
            "bf16": (97 + SPREAD, [10, 11, 10, 10, 11], memory),
            "fp16": (97 + SPREAD, [30, 31, 32, 30, 30], memory),
        },
    )
    assert front.best == ("fp32", "bf16")
    assert front.entries[2].dominated_by == ("fp32", "bf16")


def test_privacy_is_weighed(tmp_path):
    cells = [("precision=fp32 seed=0 trainer=dp", 0.98, {"epsilon": 3.0}), ("precision=bf16 seed=0", 0.97)]
    assert find(read_sweep(write_sweep(tmp_path, cells))).front.costs == ("seconds", "MiB", "ε")


def test_what_lies_within_the_spread_dominates_nothing(tmp_path):
    """Every mean of fp32 is better, and none by more than chance makes it."""
    accuracies = [97.0, 97.4, 96.8, 97.2, 97.1]
    front = front_of(
        tmp_path,
        {
            "fp32": (accuracies, [10.0, 11.0, 10.5, 9.6, 10.2], [500] * 5),
            "bf16": (accuracies[::-1], [10.4, 10.1, 11.5, 10.6, 10.0], [501] * 5),
        },
    )
    assert front.best == ("fp32", "bf16")


def test_front_and_table_weigh_common_pairs(tmp_path):
    """fp16 fails on the hardest seed, which is no reason to call its mean the better one."""
    cells = [(f"precision=fp32 seed={seed}", value) for seed, value in enumerate([0.97, 0.97, 0.96, 0.97, 0.60])]
    cells += [(f"precision=fp16 seed={seed}", value) for seed, value in enumerate([0.96, 0.96, 0.95, 0.96, "failed"])]
    findings = find(read_sweep(write_sweep(tmp_path, cells)))
    qualities = {one.recipe.label: one.quality for one in findings.front.entries}
    assert qualities == {"fp32": pytest.approx(96.75), "fp16": pytest.approx(95.75)}
    assert findings.comparisons[0].mean == pytest.approx(qualities["fp16"] - qualities["fp32"])


def test_the_sweep_asks_its_own_question(tmp_path):
    comparison = {"metric": "test_loss", "margin": 0.05, "by": ["precision"], "reference": "bf16", "confidence": 0.9}
    cells = [(f"precision={name} seed={seed}", 0.9) for name in ("fp32", "bf16") for seed in range(2)]
    sweep = read_sweep(write_sweep(tmp_path, cells, comparison=comparison))
    assert configured(sweep) == ComparisonConfig(**comparison)
    question = find(sweep).question
    assert (question.metric.name, question.margin, question.reference) == ("test_loss", 0.05, "bf16")
    write_sweep(tmp_path / "wrong", cells, comparison={"margin": -1.0})
    with pytest.raises(RequestError, match=r"comparison\.margin: got -1\.0, expected a number > 0"):
        find(read_sweep(tmp_path / "wrong"))


def test_keys_that_follow_from_others_make_no_recipes(tmp_path):
    """As beside a grid of budgets: the non-private reference is typed with several keys, of which one would do."""
    cells = [(f"trainer=dp privacy.epsilon={budget} seed={seed}", 0.9) for budget in (1, 3) for seed in range(2)]
    cells += [(f"privacy.epsilon=null trainer=standard seed={seed}", 0.98) for seed in range(2)]
    findings = find(read_sweep(write_sweep(tmp_path, cells)), ComparisonConfig(reference="null"))
    assert findings.question.by == ("privacy.epsilon",)
    assert [recipe.label for recipe in findings.grouping.recipes] == ["epsilon=null", "epsilon=1", "epsilon=3"]
    assert findings.grouping.confounded == ("trainer",)
