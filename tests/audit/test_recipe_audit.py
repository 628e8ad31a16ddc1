"""The audit of a recipe passes the real trainer with augmentation and dropout, and fails each planted fault."""

import dataclasses
import json

import pytest
from omegaconf import OmegaConf, open_dict

from runner.audit.config_audit import audit_config
from runner.commands.audit import main
from tests.audit.configs import AUGMENTED, COPIES, SMALL, request, with_dropout
from tests.audit.faults import FAULTS, MORE, planted
from tests.conftest import last_of_each

SENSITIVITY, SUMS, AGAIN, WEIGHTS, SAMPLER = (
    "sensitivity of a step, over C",
    "clipped sum, one at a time, / C",
    "a step done again, / sigma C",
    "weights: from releases alone",
    "batches: those of the sampler",
)
DEVIATION, SIZES = "noise: deviation of each tensor", "batches: variance of the size"
CAUGHT_BY = {
    "no noise": DEVIATION,
    "a tenth of the noise": DEVIATION,
    "noise divided by the batch": DEVIATION,
    "no clipping": SENSITIVITY,
    "clipping of the batch mean": SENSITIVITY,
    "the same noise at each step": "noise: another in each step",
    "shuffling accounted as Poisson": SIZES,
    "noise in the first tensors only": DEVIATION,
    "noise that two layers share": "noise: no echo within a step",
    "the same noise every second step": "noise: another in each step",
    "noise divided by two processes": DEVIATION,
    "noise 10 % short": DEVIATION,
    "noise of a public seed": "noise: another in each step",
    "another generator after a resume": AGAIN,
    "the same batch twice": "batches: unrelated over steps",
    "halves in turn at twice the rate": "batches: unrelated over steps",
    "batches in a cycle of ten": "batches: unrelated over steps",
    "batches of a fixed size": SIZES,
    "draws by position, public seed": SENSITIVITY,
    "dropout by position, public seed": SENSITIVITY,
    "clipping of each layer": SENSITIVITY,
    "clipping of each copy": SENSITIVITY,
    "a layer that mixes": SUMS,
    "a buffer of what was seen": WEIGHTS,
    "a step along the bare sum": WEIGHTS,
}
FEW = {"runs": 1, "steps": 12, "targets": 2, "sums": 20}
"""Of each audit; a second run where a fault shows between two runs alone."""


@pytest.fixture
def attack(configure, tmp_path):
    def attack(*overrides, fault="none", **numbers):
        config = configure(*SMALL, *overrides)
        with planted(with_dropout), planted(fault):
            return audit_config(request(config, **FEW | numbers), failures=tmp_path / "failures.log")

    return attack


@pytest.mark.parametrize("fault", CAUGHT_BY)
def test_a_fault_is_caught_by_its_check(attack, fault):
    recipe = COPIES if fault == "clipping of each copy" else AUGMENTED
    found = attack(*recipe, fault=fault, runs=2 if fault == "noise of a public seed" else 1)
    assert CAUGHT_BY[fault] in found.failures


def test_every_fault_has_its_check():
    assert CAUGHT_BY.keys() == (FAULTS.keys() | MORE.keys()) - {"none"}


@pytest.mark.parametrize(
    "recipe",
    [
        AUGMENTED,
        COPIES,
        ("precision=bf16", "privacy.grad_sample=functional", "optimizer=adamw", "optimizer.lr=0.001"),
        ("precision=fp16", "privacy.grad_sample=hooks", "data.batch_size=6", "trainer.accumulation_steps=2"),
        ("trainer.ema_decay=0.9", "data.batch_size=120", "data.augment.flip=true"),
    ],
    ids=["augmented", "copies", "bf16 functional", "fp16 hooks accumulated", "average, all in each step"],
)
def test_the_real_trainer_passes(attack, recipe):
    found = attack(*recipe)
    assert found.failures == ()
    assert found.lower_bound <= found.claimed


def test_first_line_measures_a_sensitivity_of_one_and_of_old_code_more(attack):
    first, wrong = (attack(*AUGMENTED, fault=fault).checks[0] for fault in ("none", "draws by position, public seed"))
    assert (first.name, first.passed, wrong.passed) == (SENSITIVITY, True, False)
    assert float(first.measured) == pytest.approx(1.0, abs=1e-4)
    assert float(wrong.measured) > 1.5


def test_a_run_is_audited_from_its_folder_and_leaves_the_ledger_alone(train, composer, tmp_path, capsys):
    ledger = tmp_path / "ledger"
    few = ["trainer.steps=12"]
    recipe = last_of_each([*SMALL, *AUGMENTED, *few, f"privacy.ledger_dir={ledger}"])
    run = train(*recipe)
    (run / ".hydra").mkdir()
    composed = composer.compose([*recipe, "tracker=none"])
    with open_dict(composed):
        del composed["hydra"]
    OmegaConf.save(composed, run / ".hydra" / "config.yaml")
    before = {path.name: path.read_bytes() for path in ledger.iterdir()}
    (run / "checkpoints").rename(run / "elsewhere")
    assert main([f"run={run}", "hardware.channels_last=false"]) == 1  # not 0: the seed of the noise is public
    out = capsys.readouterr().out
    assert "nothing is claimed: no check has failed" in out
    record = json.loads((run / "audit.json").read_text())
    plan = json.loads((run / "run.json").read_text())["plan"]
    assert record["plan"]["identity"] == plan["identity"]
    assert record["epsilon"]["claimed_by_recipe"] == plan["semantic"]["privacy"]["epsilon"]
    assert record["attacked"] == "recipe"
    formats = [found["performance"]["channels_last"] for found in (record["plan"], plan)]
    assert formats == [False, True]
    assert record["notes"] == []
    assert {path.name: path.read_bytes() for path in ledger.iterdir()} == before


def test_a_run_whose_recipe_is_another_today_is_told(configure, tmp_path):
    asked = dataclasses.replace(request(configure(*SMALL), **FEW), identity="0" * 64)
    found = audit_config(asked, failures=tmp_path / "failures.log")
    assert "another plan today" in found.notes[0]


def test_guesses_and_recipe_are_checked_before_anything_is_trained(attack, configure, tmp_path):
    from runner.errors import RequestError

    asked = request(configure(*SMALL), **FEW)
    for wrong in ({"guesses": 3}, {"guesses": 1000}, {"confidence": 1.0}):
        with pytest.raises(RequestError):
            audit_config(dataclasses.replace(asked, **wrong), failures=tmp_path / "failures.log")
