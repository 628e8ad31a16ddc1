"""What the README says is so."""

import re
import shlex

import pytest

from runner.commands.train import main
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^python -m runner (.+)$", README, re.M)
GROUPS = re.findall(r"^\| `(\w+)` \| (.+) \|$", README, re.M)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_are_right_requests(composer, tmp_path, command):
    from runner.config.request.request import check_run, read_request

    # what is not on this machine is left out: a folder of photos
    words = [word for word in shlex.split(command) if word != "data.root=photos"]
    multirun = "--multirun" in words
    request = read_request(composer, [w for w in words if w != "--multirun"], multirun=multirun, check=check_run)
    assert request.multirun == (multirun or any(word.startswith("sweep=") for word in words))


def test_the_wrong_request_is_answered_as_shown(capsys):
    request, answer = re.search(r"^\$ python -m runner (\S+)\n(error: .+)$", README, re.M).groups()
    assert main([request]) == 2
    assert capsys.readouterr().err.strip() == answer


@pytest.mark.parametrize(("group", "text"), GROUPS, ids=[group for group, _ in GROUPS])
def test_the_table_of_groups_names_every_option(composer, group, text):
    named = set(
        re.findall(r"`(\w+)`", re.sub(r"by `model\.name`|`trainer=dp`|`scheduler\.\w+`|`\./sweeps.*`", "", text))
    )
    assert named == set(composer.options(group))


def test_every_group_is_in_the_table(composer):
    assert {group for group, _ in GROUPS} == set(composer.groups())


def test_links_lead_to_files():
    links = re.findall(r"\]\(([^)#h][^)]*)\)", README)
    assert links
    assert not [link for link in links if not (ROOT / link).exists()]
