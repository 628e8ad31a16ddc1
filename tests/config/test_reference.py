"""The page of all keys and ``--help`` say what is so: both are made from the schema and the options' files."""

import re

import pytest
from omegaconf import OmegaConf

from runner.commands import keys
from runner.commands.train import main
from runner.config.groups import CLOSED, OPEN, RECIPES, SECTIONS
from runner.config.words import reference
from runner.config.words.help_text import MOST_TYPED, help_text
from runner.config.words.key_page import key_page
from runner.config.words.reference import keys_of, options_of
from runner.errors import plainly
from tests.conftest import ROOT

PAGE = ROOT / "docs" / "keys.md"


def test_the_page_is_what_the_command_prints(capsys):
    assert keys.main([]) == 0
    assert capsys.readouterr().out == PAGE.read_text(), "python -m runner keys > docs/keys.md"


def test_a_word_prints_its_part_of_the_page(capsys):
    assert keys.main(["optimizer"]) == 0
    page = capsys.readouterr().out
    assert page.startswith("## `optimizer`\n\n| key |")
    assert "| `optimizer.nesterov` |" in page
    assert "| `trainer." not in page
    assert keys.main(["patience"]) == 0
    assert "| `trainer.patience` |" in (found := capsys.readouterr().out)
    assert set(found.splitlines()) <= set(PAGE.read_text().splitlines())
    assert keys.main(["optimzer"]) == 2
    assert "did you mean optimizer?" in capsys.readouterr().err
    assert keys.main(["optimizer", "--elsewhere"]) == 2
    assert "nothing besides --elsewhere" in capsys.readouterr().err


def test_a_change_of_a_rule_or_an_option_changes_the_page(monkeypatch):
    from runner.config.rules.ranges import Range

    monkeypatch.setitem(reference.RULES, "trainer.patience", Range(3))
    assert key_page() != PAGE.read_text()
    monkeypatch.undo()
    monkeypatch.setattr("runner.config.words.key_page.options_of", lambda group: options_of(group)[1:])
    assert key_page() != PAGE.read_text()


def test_every_key_of_a_composed_run_is_on_the_page(composer):
    page = PAGE.read_text()
    for option in ("", "scheduler=plateau", "data=cifar10", "model=scatter_cnn", "optimizer=rmsprop", "tracker=none"):
        composed = composer.compose([option] if option else [])
        for group in (*OPEN, *CLOSED, *SECTIONS):
            for key in composed[group]:
                if key != "augment":
                    assert f"| `{group}.{key}` |" in page


@pytest.mark.parametrize("group", [*OPEN, *CLOSED, *RECIPES])
def test_every_option_and_every_key_of_one_says_what_it_is(group):
    assert options_of(group)
    for option in options_of(group):
        assert option.meaning
        assert all(key.meaning for key in option.keys), [key.name for key in option.keys if not key.meaning]


@pytest.mark.parametrize("request_", [[], ["trainer=dp", "optimizer=adamw", "hydra.run.dir=x"]], ids=str)
def test_help_shows_the_values_and_options_that_the_request_has(composer, request_):
    composed = composer.compose(request_)
    text = help_text(composed, composer, {"plan": "what would be"})
    assert re.search(r"^  plan        what would be$", text, re.M)
    assert max(map(len, text.splitlines())) <= 80
    for key in MOST_TYPED:
        assert re.search(rf"^  {re.escape(key)}={re.escape(plainly(OmegaConf.select(composed, key)))}\s", text, re.M)
    for group in (*OPEN, *CLOSED):
        assert f" {composed.hydra.runtime.choices[group]}*" in text


def test_what_help_shows_as_a_default_changes_nothing_when_it_is_typed(composer):
    composed = composer.compose([])
    again = composer.compose([f"{key}={plainly(OmegaConf.select(composed, key))}" for key in MOST_TYPED])
    assert {key: value for key, value in again.items() if key != "hydra"} == {
        key: value for key, value in composed.items() if key != "hydra"
    }


def test_help_is_printed_for_the_request(capsys):
    assert main(["--help", "trainer=dp"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "dp*" in out
    assert "$" not in out


def test_the_meaning_is_the_docstring_of_the_schema():
    (patience,) = [key for key in keys_of("trainer") if key.name == "trainer.patience"]
    assert patience.kind == "whole number >= 1 or null"
    assert patience.default == "null"
    assert patience.meaning.startswith("Early stopping: evaluations without improvement")
