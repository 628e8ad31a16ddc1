"""What a key may be stands in its annotation alone, and is refused in the same words wherever the value comes from."""

import re

import pytest
from omegaconf import OmegaConf

from runner.config.compose import Composer
from runner.config.load import load_config
from runner.config.rules.choices import choices_of_schema
from runner.config.rules.rules import RULES
from runner.config.words.reference import keys_of
from runner.errors import RequestError

LINE = r"privacy\.accountant: got pdl{}, expected one of pld, prv, rdp; did you mean pld\?$"


def test_the_annotations_are_the_rules_and_the_documentation():
    choices = choices_of_schema()
    assert len(choices) >= 16
    documented = {key.name: key.kind for group in {name.split(".")[0] for name in choices} for key in keys_of(group)}
    for key, rule in choices.items():
        assert RULES[key] is rule or RULES[key] == rule
        assert documented[key].removesuffix(" or null") == ", ".join(rule.names)


@pytest.mark.parametrize("key", choices_of_schema())
def test_a_value_that_is_none_of_them_is_refused(key):
    with pytest.raises(RequestError, match=rf"{re.escape(key)}: got no such value, expected one of "):
        RULES[key].check(key, "no such value")


def test_a_typed_value(composer):
    with pytest.raises(RequestError, match=LINE.format("")):
        composer.compose(["privacy.accountant=pdl"])


def test_a_value_in_a_file(tmp_path):
    file = tmp_path / "experiment" / "mine.yaml"
    file.parent.mkdir()
    file.write_text("# @package _global_\nprivacy:\n  accountant: pdl\n")
    with pytest.raises(RequestError, match=LINE.format(r" in the file experiment/mine\.yaml")):
        Composer(caller=tmp_path, extra=tmp_path).compose(["experiment=mine"])


def test_a_value_of_a_configuration_that_is_read_back(composer):
    plain = OmegaConf.to_container(composer.compose([]), resolve=False)
    del plain["hydra"]
    plain["privacy"]["accountant"] = "pdl"
    with pytest.raises(RequestError, match=LINE.format("")):
        load_config(OmegaConf.create(plain))
