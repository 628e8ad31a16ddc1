"""Every command and key on docs/augmentation.md can be typed."""

import re
import shlex

import pytest

from runner.config.request.request import check_run, read_request
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "augmentation.md").read_text()
COMMANDS = re.findall(r"^python -m runner (.*)$", PAGE, re.M)
KEYS = re.findall(r"`((?:data\.augment\.\w+=[\w.]+ ?)+)`", PAGE)


@pytest.mark.parametrize("words", [*COMMANDS, *KEYS])
def test_what_is_typed_on_the_page_is_a_request(words, composer, tmp_path):
    lines = [f"data.root={tmp_path}" if word == "data.root=photos" else word for word in shlex.split(words)]
    request = read_request(composer, lines, multirun=False, check=check_run)
    assert request.configs[0].data.augment.changes_pixels or request.configs[0].data.augment.mixes


def test_the_page_has_commands():
    assert len(COMMANDS) == 3
    assert len(KEYS) == 3
