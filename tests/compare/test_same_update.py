"""Cells that claim to compute the same update are made to, once, and held against each other."""

import contextlib
import json
import shutil

import pytest

from runner.cli import main as run
from runner.compare.__main__ import main
from runner.compare.finish import finish_sweep
from runner.compare.same_update import pairs_to_check
from runner.report.cells import read_sweep
from runner.report.update_checks import read_checks

TINY = (
    "--multirun",
    "data.limit=40",
    "trainer.steps=2",
    "scheduler.warmup_epochs=0.5",
    "hardware=cpu",
    "hardware.threads=1",
    "tracker=none",
)


@pytest.fixture
def sweep(tmp_path):
    """sweep(...) -> the folder of a finished sweep of a few updates."""

    def sweep(*lines):
        with contextlib.chdir(tmp_path):
            assert run([*TINY, *lines, "hydra.sweep.dir=grid"]) == 0
        return tmp_path / "grid"

    return sweep


def test_a_split_that_changes_nothing(sweep, capsys):
    folder = sweep("model=mlp", "data.batch_size=16,8", "trainer.accumulation_steps=1,2", "seed=0,1")
    (check,) = read_checks(folder)  # one for both seeds
    assert check.equal
    assert check.difference < 1e-13
    assert check.own_difference < 1e-5
    assert check.settings == ("batch_size: 16, 8", "accumulation_steps: 1, 2")
    assert "compute the same update: largest relative difference" in (folder / "report.md").read_text()
    capsys.readouterr()
    assert main([str(folder), "--by", "data.batch_size"]) == 0
    out = capsys.readouterr().out
    assert "compute the same update" in out
    assert out.splitlines()[-1] == f"report: {folder / 'report.html'}"


def test_layers_that_mix_a_micro_batch_are_named(sweep):
    folder = sweep("model=mobilenet_v3_small,resnet18", "data.batch_size=16,8", "trainer.accumulation_steps=1,2")
    both, alone = read_checks(folder)
    assert not both.equal
    assert both.causes == ("BatchNorm", "dropout")
    assert not alone.equal
    assert alone.difference > 1e-3
    assert alone.causes == ("BatchNorm",)
    assert "do not compute the same update" in (folder / "report.md").read_text()
    assert "because of BatchNorm." in (folder / "report.md").read_text()


def test_private_cells(sweep):
    """Ghost norms against torch.func, on the same Poisson batch and without noise."""
    folder = sweep("trainer=dp", "model=mlp", "data.batch_size=16", "privacy.grad_sample=ghost,functional",                    "privacy.noise_multiplier=1.0")  # fmt: skip
    (check,) = read_checks(folder)
    assert check.equal
    assert check.settings == ("grad_sample: ghost, functional",)


def test_processes(sweep):
    folder = sweep("trainer=accelerate", "model=mlp", "hardware.processes=1,2", "data.batch_size=16,8")
    (check,) = read_checks(folder)
    assert check.equal
    assert check.settings == ("processes: 1, 2", "batch_size: 16, 8")


def test_recipes_that_differ_claim_nothing(sweep):
    folder = sweep("model=mlp", "precision=fp32,bf16")
    assert not pairs_to_check(read_sweep(folder))
    assert not (folder / "same_update.json").exists()


def test_what_cannot_be_checked_says_why(sweep):
    folder = sweep("model=mlp", "hardware.channels_last=true,false")
    assert read_checks(folder)[0].equal
    (folder / "same_update.json").unlink()
    record = json.loads((folder / "1" / "run.json").read_text())
    record["plan"]["identity"] = "0" * 64
    (folder / "1" / "run.json").write_text(json.dumps(record))
    shutil.copy(folder / "1" / "run.json", folder / "0" / "run.json")
    record["plan"]["performance"]["channels_last"] = not record["plan"]["performance"]["channels_last"]
    (folder / "0" / "run.json").write_text(json.dumps(record))
    finish_sweep(folder)
    (check,) = read_checks(folder)
    assert check.equal is None
    assert "not checked, its configuration leads to another plan today" in (folder / "report.md").read_text()


def test_a_wrong_rule_would_have_been_seen(sweep, monkeypatch):
    """The control: what most loops do, dividing by the number of micro-batches, is no rounding."""
    from runner.training.mean_rule import MeanRule

    folder = sweep("model=mlp", "data.batch_size=16,8", "trainer.accumulation_steps=1,2")
    (folder / "same_update.json").unlink()
    add = MeanRule.add

    def halved(self, images, labels):
        self._weight.mul_(len(labels) / 16)
        return add(self, images, labels)

    monkeypatch.setattr(MeanRule, "add", halved)
    finish_sweep(folder)
    (check,) = read_checks(folder)
    assert not check.equal
    assert check.causes == ()
    assert "for a reason that is neither BatchNorm nor dropout" in (folder / "report.md").read_text()
