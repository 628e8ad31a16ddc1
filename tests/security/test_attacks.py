"""No file from a stranger runs, reads or sends anything: each is refused in one line, and lands without its guard."""

import contextlib
from importlib import import_module
from pathlib import Path

import pytest

from tests.security.stage import ATTACKS, GUARDS, Stage, play

for file in sorted(Path(__file__).parent.glob("attacks_*.py")):
    import_module(f"tests.security.{file.stem}")

EACH = pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: f"{attack.family}-{attack.name}")


@EACH
def test_it_is_refused_in_one_line(attack, tmp_path):
    stage = Stage(tmp_path)
    refusal = play(attack, stage)
    assert not stage.landed()
    assert refusal is not None, "it was let through, though nothing has landed"
    assert attack.says in str(refusal)
    assert "\n" not in str(refusal).strip()
    assert "Traceback" not in stage.said


@EACH
def test_it_lands_without_its_guard(attack, tmp_path, monkeypatch):
    GUARDS[attack.family](monkeypatch)
    stage = Stage(tmp_path)
    with contextlib.suppress(Exception):
        play(attack, stage)
    assert stage.landed()
