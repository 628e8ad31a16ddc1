"""Every command reads its words, refuses one and prints its help in the same way; the dispatcher finds each."""

import sys
from importlib import import_module

import pytest

from runner.__main__ import infer, main
from runner.commands import COMMANDS, chosen
from tests.conftest import ROOT

USING_THE_PARSER = [name for name in COMMANDS if name != "train"]


@pytest.fixture
def typed(monkeypatch, capsys):
    """typed(words) -> exit code, standard output and error of the program."""

    def typed(words, program=main):
        monkeypatch.setattr(sys, "argv", ["runner", *words])
        return (program(), *capsys.readouterr())

    return typed


@pytest.mark.parametrize("name", USING_THE_PARSER)
def test_help_is_one_page_of_80_columns(name, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    assert import_module(f"runner.commands.{name}").main(["--help"]) == 0
    page, err = capsys.readouterr()
    assert err == ""
    assert page.startswith(f"usage: python -m runner {name} ")
    assert "\nexit codes: 0 done, " in page
    assert max(map(len, page.splitlines())) <= 80


@pytest.mark.parametrize("name", COMMANDS)
def test_a_wrong_flag_is_one_line_with_what_is_allowed(name, capsys):
    assert import_module(f"runner.commands.{name}").main(["--hlep"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: --hlep: got an unknown flag, expected ")
    assert err.endswith("; did you mean --help?\n")
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_a_flag_is_not_cut_short(name, capsys):
    assert import_module(f"runner.commands.{name}").main(["--hel"]) == 2
    assert "--hel: got an unknown flag" in capsys.readouterr().err


def test_no_parser_but_one():
    commands = (ROOT / "runner" / "commands").glob("*.py")
    assert [path.name for path in commands if "argparse.ArgumentParser" in path.read_text()] == ["parser.py"]


@pytest.mark.parametrize(
    ("words", "name", "rest"),
    [
        ([], "train", []),
        (["trainer=dp"], "train", ["trainer=dp"]),
        (["train", "trainer=dp"], "train", ["trainer=dp"]),
        (["--multirun", "seed=0,1"], "train", ["--multirun", "seed=0,1"]),
        (["~optimizer"], "train", ["~optimizer"]),
        (["plan", "-m", "seed=0,1"], "plan", ["-m", "seed=0,1"]),
        (["help"], "train", ["--help"]),
        (["help", "trainer=dp"], "train", ["--help", "trainer=dp"]),
        (["help", "plan"], "plan", ["--help"]),
        (["pln", "x"], "pln", ["x"]),
        (["help", "pln"], "pln", ["--help"]),
        (["mine.yaml"], "train", ["mine.yaml"]),
    ],
    ids=str,
)
def test_the_command_is_chosen(words, name, rest):
    found, left = chosen(words)
    assert (found, list(left)) == (name, rest)


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("pln", "plan"),
        ("Plan", "plan"),
        ("inferr", "infer"),
        ("evaluate", "infer"),
        ("fit", "train"),
        ("sweep", "train"),
    ],
)
def test_a_word_that_is_no_command_gets_the_nearest(typed, word, near):
    code, out, err = typed([word, "x=1"])
    assert (code, out) == (2, "")
    assert err == (
        f"error: {word}: got a bare word, expected key=value, or a command: {', '.join(COMMANDS)};"
        f" did you mean {near}?\n"
    )


def test_words_of_other_tools_for_commands_stand_once_and_are_none():
    words = [word for command in COMMANDS.values() for word in command.elsewhere.split()]
    assert sorted(words) == sorted(set(words))
    assert not set(words) & set(COMMANDS)


def test_the_page_of_all_commands_is_made_of_them(typed):
    code, page, _ = typed(["help"])
    assert code == 0
    for name, command in COMMANDS.items():
        assert f"\n  {name:<10}  {command.about[:40]}" in page


def test_ml_inference_is_infer(typed):
    code, _, err = typed(["runn=x"], program=infer)
    assert (code, err.splitlines()) == (2, [err.rstrip("\n")])
    assert "did you mean run?" in err
