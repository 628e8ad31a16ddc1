import json
import os
import re
import subprocess
import sys

import pytest

from runner.audit import canary_audit
from runner.commands.audit import main
from runner.privacy.accounting.privacy_text import epsilon_text, lower_bound_text
from runner.privacy.mechanism.key import SecretKey
from tests.audit.faults import planted
from tests.conftest import ROOT

SMALL = ["data.canaries=200", "data.batch_size=100", "trainer.steps=20", "hardware.threads=1",
         "privacy.accountant=rdp", "privacy.unsafe_noise_seed=7"]  # fmt: skip


@pytest.fixture
def audit(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def audit(*arguments):
        code = main([*arguments, "hydra.run.dir=out"])
        return code, *capsys.readouterr()

    return audit


def test_a_right_trainer_passes_and_leaves_a_record(audit, tmp_path, monkeypatch):
    monkeypatch.setattr(canary_audit, "new_key", lambda privacy, number: SecretKey.from_unsafe_seed(7))
    code, out, err = audit(*SMALL[:-1], "privacy.epsilon=2", "--guesses", "100", "--confidence", "0.9")
    assert (code, err) == (0, "")
    record = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert record["passed"] is True
    assert record["failures"] == []
    epsilon = record["epsilon"]
    assert epsilon["lower_bound"] <= epsilon["claimed"] <= 2.0
    assert epsilon["confidence"] == 0.9
    assert record["guesses"]["made"] == 100
    assert record["attacked"] == "canaries"
    assert record["checks"][0]["name"] == "sensitivity of a step, over C"
    assert len(record["checks"]) == 18
    assert record["plan"]["semantic"]["privacy"]["epsilon"] == epsilon["claimed"]
    assert f"<= {epsilon_text(epsilon['claimed'])}" in out
    assert f">= {lower_bound_text(epsilon['lower_bound'])} at 90%" in out
    assert "\npassed: nothing contradicts the claim\n" in out
    assert "NOT private" not in out
    assert len(re.findall(r" pass$", out, re.M)) == 19
    assert max(map(len, out.splitlines()[:-1])) <= 80, "all but the path of the record"


def test_a_wrong_trainer_is_exit_code_1(audit, tmp_path):
    with planted("the same noise at each step"):
        code, out, _ = audit(*SMALL)
    assert code == 1
    assert "FAILED: " in out
    assert json.loads((tmp_path / "out" / "audit.json").read_text())["passed"] is False


def test_where_nothing_is_claimed_nothing_passes(audit, tmp_path):
    code, out, _ = audit(*SMALL)
    assert code == 1
    assert "\nnothing is claimed: " in out
    assert "passed" not in out
    record = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert (record["passed"], record["failures"]) == (False, [])


def test_a_claim_beyond_what_can_be_measured_says_so(audit):
    _, out, _ = audit(*SMALL, "privacy.epsilon=8", "--guesses=50")
    assert "above what can be measured" in out


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("--guesses 7", "--guesses: got 7"),
        ("--guesses 5000", "--guesses: got 5000"),
        ("--guesses many", "--guesses: got many, expected a whole number"),
        ("--confidence 1", "--confidence: got 1"),
        (
            "--guess 7",
            "--guess: got an unknown flag, expected [--guesses N] [--confidence P]",
        ),
        ("privacy.eps=3", "privacy.eps: got 3, expected a key that exists; did you mean privacy.epsilon?"),
        ("privacy.epsilon=0", "privacy.epsilon: got 0"),
        ("experiment=debug", "trainer: got standard"),
        ("sweep=precision", "sweep: got precision"),
        ("trainer=standard", "trainer: got standard"),
        ("data.mean=[0.5]", "data.mean: got [0.5]"),
        ("data.augment.flip=true", "data.augment: got random changes"),
        ("data.limit=30", "data.limit: got 30"),
        ("hardware.processes=2", "hardware.processes: got 2"),
        ("data=digits privacy.epsilon=null privacy.noise_multiplier=2 trainer.steps=5", "trainer.steps: got 5"),
        ("data=digits data.limit=12 data.batch_size=4 privacy.delta=1e-3", "data.limit: got 12"),
        ("run=nowhere", "run: got nowhere"),
        ("run=nowhere data=digits", "data: got data=digits, expected nothing besides run=nowhere"),
        ("trainer.steps=5", "trainer.steps: got 5"),
        ("model.bias=true", "model: got linear"),
        ("model=small_cnn", "model"),
        ("model=linear optimizer.lr=1,2", "optimizer.lr: got 1,2"),
    ],
)
def test_a_wrong_request_is_one_line_and_leaves_nothing(audit, tmp_path, typed, line):
    code, out, err = audit(*typed.split())
    assert (code, out) == (2, "")
    (error,) = [told for told in err.splitlines() if not told.startswith("note: ")]
    assert error.startswith(f"error: {line}")
    assert not (tmp_path / "out").exists()


def test_from_a_shell(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "runner", "audit", *SMALL, "hydra.run.dir=out"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 1, done.stderr  # the seed of the noise is public, so that nothing is claimed
    assert done.stderr == ""
    assert (tmp_path / "out" / "audit.json").exists()
