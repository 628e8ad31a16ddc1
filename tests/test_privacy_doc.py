"""What docs/privacy.md says of tests, figures and files is so."""

import math
import re

import pytest

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "privacy.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))
PITFALLS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.split("## Pitfalls")[1].split("\n## ")[0].splitlines()
    if re.match(r"\| (critical|high|medium|low) ", line)
]


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_a_named_test_exists(path, name):
    assert re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.M)


def test_every_pitfall_has_a_severity_a_treatment_and_a_test():
    assert len(PITFALLS) >= 25
    severities = [severity for severity, *_ in PITFALLS]
    order = ["critical", "high", "medium", "low"]
    assert severities == sorted(severities, key=order.index)
    for severity, pitfall, treatment, shown in PITFALLS:
        assert pitfall, severity
        assert treatment, pitfall
        assert "::test_" in shown or shown.startswith("no test: "), pitfall


def test_every_trap_of_a_library_is_on_the_page():
    traps = re.findall(r"^def (test_\w+)", (ROOT / "tests/privacy/test_library_traps.py").read_text(), re.M)
    named = {name for _, name in NAMED}
    assert [trap for trap in traps if trap not in named] == []


def test_the_odds_in_the_table_are_those_of_epsilon():
    rows = re.findall(r"^\| ([\d.]+) \| ([\d.,]+) : 1 \| ([\d.]+) %", PAGE, re.M)
    assert len(rows) == 5
    for epsilon, odds, certainty in rows:
        expected = math.exp(float(epsilon))
        assert float(odds.replace(",", "")) == pytest.approx(expected, rel=0.03)
        assert float(certainty) == pytest.approx(100 * expected / (1 + expected), abs=0.5)


def test_links_lead_to_files():
    links = re.findall(r"\]\(([^)#h][^)]*)\)", PAGE)
    assert links
    assert not [link for link in links if not (ROOT / "docs" / link).exists()]


def test_the_commands_are_right_requests(monkeypatch, tmp_path):
    from runner.commands import audit as command

    requests = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "_audit", lambda asked, **given: requests.append((asked, given)) or 0)
    commands = re.findall(r"^python -m runner audit (.+)$", PAGE, re.M)
    of_runs = [line for line in commands if line.startswith("run=")]
    assert (len(commands), len(of_runs)) == (4, 1)
    for line in commands:
        if line not in of_runs:
            assert command.main(line.split()) == 0
    assert [asked.config.privacy.epsilon for asked, _ in requests] == [1.0, 3.0, 3.0]
    assert [asked.canaries for asked, _ in requests] == [True, True, False]
    assert requests[1][1] == {"guesses": 300, "confidence": 0.99}


def test_the_example_of_a_statement_is_one():
    page = (ROOT / "tests" / "statement" / "pages" / "private.md").read_text()
    quoted = "\n".join(line.removeprefix(">").strip() for line in PAGE.splitlines() if line.startswith(">"))
    paragraphs = [" ".join(paragraph.split()) for paragraph in quoted.split("\n\n")]
    assert len(paragraphs) == 2
    assert not [paragraph for paragraph in paragraphs if paragraph not in page]
