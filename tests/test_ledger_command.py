"""``python -m runner ledger``: the table, the check of the chain, and answers to wrong requests."""

import dataclasses
import os
import subprocess
import sys

import pytest

from runner.commands.ledger import main
from runner.privacy.ledger.ledger import Ledger, PlannedRun
from tests.conftest import ROOT

RUN = PlannedRun(
    data="digits", examples=1000, identity="1" * 64, name="digits-linear-dp", folder="outputs/run", sweep=None,
    private=True, sample_rate=0.02, noise_multiplier=1.311, steps=1500, delta=1e-5, epsilon=3.0, accountant="pld",
    adjacency="add or remove one training example", sampling="Poisson", validation="private",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "ledger"
    ended = Ledger(folder, "a" * 64).begin(RUN)
    ended.steps = 1500
    ended.evaluate()
    ended.end("completed", 3.0)
    Ledger(folder, "a" * 64).begin(dataclasses.replace(RUN, name="killed"))
    Ledger(folder, "b" * 64).begin(dataclasses.replace(RUN, data="mnist", private=False))
    return folder


@pytest.fixture
def command(folder, capsys, monkeypatch):
    """command(...) -> (exit code, stdout, stderr) for the ledgers in ``folder``."""
    monkeypatch.setenv("COLUMNS", "160")

    def command(*arguments):
        return main([*arguments, "--dir", str(folder)]), *capsys.readouterr()

    return command


def test_show(command):
    code, out, err = command()
    assert (code, err) == (0, "")
    assert command("show") == (code, out, err)
    digits, mnist = out.split("\n\n", 1)
    assert digits.startswith(f"digits  {'a' * 16}")
    assert "publishing all 2 private runs: ε=4.3" in digits
    assert "at δ=1e-05 (pld composition; add or remove one training example, Poisson sampling)" in digits
    assert "going on or killed: 1 run, with all steps that were planned" in digits
    assert "1 evaluation on private validation data without noise, which no ε covers" in digits
    assert "not private" in mnist
    assert "publishing" not in mnist


def test_a_run_that_was_killed_and_went_on_to_its_end_is_not_called_killed(command, folder):
    ledger = Ledger(folder, "c" * 64)
    first = ledger.begin(RUN)
    again = ledger.begin(RUN, entry=first.entry)
    again.steps = RUN.steps
    again.end("completed", RUN.epsilon)
    out = command("show", "c" * 16)[1]
    assert "completed" in out
    assert "publishing 1 private run: ε=3.0" in out
    assert "killed" not in out


def test_a_run_is_two_lines_on_a_terminal_of_80_columns(command, monkeypatch):
    assert "noise" in command()[1]
    monkeypatch.setenv("COLUMNS", "80")
    lines = command("digits")[1].splitlines()
    table = lines[2 : next(number for number, line in enumerate(lines) if line.startswith("publishing"))]
    assert max(map(len, table)) <= 80
    assert "noise" not in table[0]
    folders = [line for line in table if "outputs/run" in line]
    assert len(folders) == 2
    first, second = table[table.index(folders[0]) - 1 : table.index(folders[0]) + 1]
    assert first.split()[1:] == ["digits-linear-dp", "completed", "1500", "1500", "1", "1e-05", "3.00"]
    assert second.split()[1:] == ["outputs/run"]


@pytest.mark.parametrize("name", ["mnist", "bbb", "b" * 64])
def test_one_data_set(command, name):
    code, out, _ = command(name)
    assert code == 0
    assert out.startswith("mnist")
    assert "digits " not in out


def test_the_key_of_a_run_is_answered_with_the_flag(command):
    code, _, err = command("privacy.ledger_dir=mine")
    assert code == 2
    assert "DATA: got privacy.ledger_dir=mine, expected --dir mine" in err


def test_verify(command, folder):
    assert command("verify") == (0, f"{'a' * 64}: 4 lines, whole\n{'b' * 64}: 1 line, whole\n", "")
    file = folder / f"{'a' * 64}.jsonl"
    with file.open("a") as opened:
        opened.write('{"kind":"sta')
    assert "a torn last line" in command("verify", "digits")[1]
    file.write_text(file.read_text().replace('"steps":1500', '"steps":15'))
    code, out, err = command("verify")
    assert (code, out) == (1, f"{'b' * 64}: 1 line, whole\n")
    assert err == f"error: {'a' * 64}: line 1 was edited\n"
    code, _, err = command("show")
    assert code == 1
    assert "line 1 was edited" in err


def test_a_ledger_of_which_only_the_head_is_left_is_broken(command, folder):
    (folder / f"{'b' * 64}.jsonl").unlink()
    assert command("verify")[0] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("digitz",), "error: DATA: got digitz, expected a data set with a ledger; did you mean digits?\n"),
        (("--all",), "error: --all: got an unknown flag, expected [--dir FOLDER] [[show|verify] DATA ...]"),
    ],
)
def test_wrong_requests(command, arguments, message):
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith(message)
    assert err.count("\n") == 1


def test_without_ledgers(capsys, tmp_path):
    assert main([]) == 0
    assert capsys.readouterr().out == "no private run is recorded\n"
    assert main(["--dir", str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err.startswith("error: --dir: got ")


def test_it_is_a_program_and_imports_no_torch(folder):
    code = (
        f"import sys; from runner.commands.ledger import main; main(['--dir', {str(folder)!r}]);"
        " print('torch' in sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
    program = [sys.executable, "-m", "runner", "ledger", "verify", "--dir", str(folder)]
    assert subprocess.run(program, env=environment, capture_output=True, check=False).returncode == 0
