"""Cells that claim to compute the same update are made to, once, and held against each other."""

import dataclasses

import pytest
from omegaconf import OmegaConf

from runner.commands.compare import main
from runner.config.choice import Choice
from runner.config.load import load_config
from runner.data.open import open_data
from runner.planning.build import build_plan
from runner.planning.device import detect_device
from runner.records.run_file import FinalMetrics, RunRecord, read_run, write_run
from runner.report.cells import read_sweep
from runner.report.update_checks import describe_check, read_checks, write_checks
from runner.sweeping.finish import finish_sweep
from runner.verify.same_update import check_updates, pairs_to_check

RECIPE = ("data.limit=40", "model=mlp", "trainer.steps=9", "scheduler.warmup_epochs=1", "hardware=cpu",
          "hardware.threads=1")  # fmt: skip
SPLITS = ("data.batch_size=16 trainer.accumulation_steps=1", "data.batch_size=8 trainer.accumulation_steps=2")


def check_of(folder):
    (check,) = check_updates(pairs_to_check(read_sweep(folder)))
    return check


@pytest.fixture
def planned(composer, tmp_path):
    """planned(recipe, cell, cell) -> the folder of a sweep whose cells say that they were run; nothing was trained."""

    def planned(recipe, *cells):
        folder = tmp_path / "sweep"
        for number, lines in enumerate(cells):
            composed = composer.compose([*RECIPE, *recipe, *lines.split()])
            config = load_config(composed, composer.option_defaults(composed))
            processes = config.hardware.processes
            plan = build_plan(config, open_data(config.data), detect_device(config.hardware), processes=processes)
            hydra = folder / str(number) / ".hydra"
            hydra.mkdir(parents=True)
            keys = [str(key) for key in composed if key != "hydra"]
            OmegaConf.save(OmegaConf.masked_copy(composed, keys), hydra / "config.yaml")
            OmegaConf.save(lines.split(), hydra / "overrides.yaml")
            if plan.performance.grad_sample == "auto":
                plan = plan.with_grad_sample(Choice("ghost", "request", "for the test"))
            metrics = FinalMetrics(test_accuracy=0.9)
            write_run(hydra.parent, RunRecord(name="r", status="completed", metrics=metrics, plan=plan.as_dict()))
        return folder

    return planned


def test_a_split_that_changes_nothing(planned, capsys):
    folder = planned((), *(f"{split} seed={seed}" for split in SPLITS for seed in (0, 1)))
    assert main([str(folder), "--by", "data.batch_size"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == f"report: {folder / 'comparison.html'}"
    (check,) = read_checks(folder)  # one for both seeds
    assert check.cells == ("0", "2")
    assert check.equal
    assert check.difference < 1e-13
    assert 0 < check.own_difference < 1e-5
    assert check.settings == ("batch_size: 16, 8", "accumulation_steps: 1, 2")
    said = "Cells 0 and 2 (batch_size: 16, 8; accumulation_steps: 1, 2) compute the same update: largest relative"
    assert said in out
    assert said in (folder / "comparison.md").read_text().replace("\\", "")
    assert not (folder / "report.html").exists(), "the sweep's own report is another file"


@pytest.mark.parametrize(
    ("batch_norm", "dropout", "causes"),
    [
        (True, False, ("BatchNorm",)),
        (False, True, ("dropout",)),
        (True, True, ("BatchNorm", "dropout")),
        (False, False, ()),
    ],
)
def test_layers_that_a_split_matters_to_are_named(planned, monkeypatch, batch_norm, dropout, causes):
    monkeypatch.setenv("RECIPE_RUNNER_TARGETS", "tests.verify.mixing_net")
    model = ("model=small_cnn", "model._target_=tests.verify.mixing_net.build", "model.widths=[4]",
             f"+model.batch_norm={str(batch_norm).lower()}", f"+model.dropout={str(dropout).lower()}")  # fmt: skip
    folder = planned(model, *SPLITS)
    check = check_of(folder)
    assert check.causes == causes
    assert check.equal is not bool(causes)
    if causes:
        assert check.difference > 1e-3
        assert describe_check(check).endswith(f"because of {' and '.join(causes)}.")


def test_private_cells(planned):
    """Ghost norms against torch.func, on the same Poisson batch and without noise."""
    recipe = ("trainer=dp", "privacy.noise_multiplier=1", "data.batch_size=16")
    folder = planned(recipe, "privacy.grad_sample=ghost", "privacy.grad_sample=functional")
    check = check_of(folder)
    assert check.equal
    assert check.settings == ("grad_sample: ghost, functional",)


def test_processes(planned):
    folder = planned(("trainer=accelerate",), "data.batch_size=16", "data.batch_size=8 hardware.processes=2")
    check = check_of(folder)
    assert check.equal
    assert check.settings == ("processes: 1, 2", "batch_size: 16, 8")


def test_recipes_that_differ_claim_nothing(planned):
    folder = planned((), "precision=fp32", "precision=bf16")
    assert not pairs_to_check(read_sweep(folder))


def test_the_question_is_no_part_of_a_recipe(planned):
    folder = planned((), "comparison.margin=1", "comparison.by=[seed] comparison.reference=0")
    first, second = read_sweep(folder).cells
    assert first.identity == second.identity
    assert not pairs_to_check(read_sweep(folder))


def test_what_cannot_be_checked_says_why(planned):
    folder = planned((), *SPLITS)
    for cell in ("0", "1"):
        record = read_run(folder / cell)
        write_run(folder / cell, dataclasses.replace(record, plan={**record.plan, "identity": "0" * 64}))
    check = check_of(folder)
    assert check.equal is None
    assert describe_check(check).endswith("its configuration leads to another plan today: code or data have changed.")


def test_what_was_found_is_not_found_again(planned, monkeypatch):
    folder = planned((), *SPLITS)
    write_checks(folder, [check_of(folder)])
    before = read_checks(folder)
    monkeypatch.setattr("runner.sweeping.finish.check_updates", lambda pairs: pytest.fail("computed again"))
    finish_sweep(folder)
    assert read_checks(folder) == before


def test_a_wrong_rule_would_have_been_seen(planned, monkeypatch):
    """The control: what most loops do, dividing by the number of micro-batches, is no rounding."""
    from runner.training.gradients.mean_rule import MeanRule

    add = MeanRule.add

    def averaged(self, images, labels):
        self._weight.fill_(1 / len(labels))
        return add(self, images, labels)

    monkeypatch.setattr(MeanRule, "add", averaged)
    folder = planned((), *SPLITS)
    check = check_of(folder)
    assert not check.equal
    assert check.causes == ()
    assert "for a reason that is neither BatchNorm nor dropout" in describe_check(check)
