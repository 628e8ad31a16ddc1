"""A ledger that was cut back, removed or replaced by an older copy shows, though its own two files agree."""

import json
import shutil

import pytest

from runner.commands.ledger import main
from runner.errors import RequestError
from runner.privacy.ledger.anchor import Anchor, anchor_folder
from runner.privacy.ledger.chain import BrokenChain, Chain
from runner.privacy.ledger.ledger import Ledger
from tests.privacy.test_ledger import RUN

CONTENTS = "a" * 64


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    """Three lines."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    ledger = Ledger(tmp_path / "ledger", CONTENTS)
    ledger.begin(RUN).end("completed", 3.0)
    ledger.begin(RUN)
    assert ledger.verify() == (3, False)
    return ledger


def files(ledger):
    return ledger.folder / f"{CONTENTS}.jsonl", ledger.folder / f"{CONTENTS}.head"


def cut_without_head(ledger):
    path, head = files(ledger)
    path.write_bytes(path.read_bytes().split(b"\n")[0] + b"\n")
    head.unlink()


def cut_with_an_honest_head(ledger):
    path, head = files(ledger)
    line = path.read_bytes().split(b"\n")[0]
    path.write_bytes(line + b"\n")
    head.write_text(json.dumps({"line": 1, "hash": json.loads(line)["hash"]}))


def remove(ledger):
    for file in files(ledger):
        file.unlink()


def remove_the_folder(ledger):
    shutil.rmtree(ledger.folder)
    ledger.folder.mkdir()


def begin_another(ledger):
    remove(ledger)
    Ledger(ledger.folder, CONTENTS, anchored=False).begin(RUN)


def rewrite_history(ledger):
    """The same first line, and then another past of the same length."""
    cut_with_an_honest_head(ledger)
    other = Ledger(ledger.folder, CONTENTS, anchored=False)
    for _ in range(2):
        other.begin(RUN)


ATTACKS = {
    cut_without_head: "head is missing",
    cut_with_an_honest_head: "line 2 is missing: 3 were written from here",
    remove: "line 1 is missing: a ledger of 3 lines was here",
    remove_the_folder: "line 1 is missing: a ledger of 3 lines was here",
    begin_another: "line 1 is missing: a ledger of 3 lines was here",
    rewrite_history: "line 3 is not the one that was written from here",
}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_an_attack_shows_in_verify_and_stops_the_next_run(ledger, attack, capsys):
    attack(ledger)
    assert main(["verify", "--dir", str(ledger.folder)]) == 1
    assert ATTACKS[attack] in capsys.readouterr().err
    with pytest.raises(RequestError, match=ATTACKS[attack]):
        ledger.begin(RUN)


@pytest.mark.parametrize("attack", [attack for attack in ATTACKS if attack is not cut_without_head])
def test_without_the_notes_it_verifies(ledger, attack):
    attack(ledger)
    assert Ledger(ledger.folder, CONTENTS, anchored=False).verify()[0] in (0, 1, 3)


def test_an_older_copy_shows_and_a_newer_one_does_not(ledger, tmp_path):
    older = shutil.copytree(ledger.folder, tmp_path / "older")
    ledger.begin(RUN)
    shutil.rmtree(ledger.folder)
    newer = shutil.copytree(older, ledger.folder)
    with pytest.raises(BrokenChain, match="line 4 is missing"):
        Ledger(newer, CONTENTS).verify()


def test_it_may_move_and_others_may_write_to_it(ledger, tmp_path, monkeypatch):
    moved = tmp_path / "moved"
    ledger.folder.rename(moved)
    Ledger(moved, CONTENTS).begin(RUN)
    with monkeypatch.context() as somebody_else:
        somebody_else.setenv("XDG_STATE_HOME", str(tmp_path / "their state"))
        Ledger(moved, CONTENTS).begin(RUN)
    assert Ledger(moved, CONTENTS).verify() == (5, False)
    # where it was, another may begin
    Ledger(ledger.folder, CONTENTS).begin(RUN)
    assert ledger.verify() == (1, False)


def test_the_file_that_is_named_is_the_cure(ledger, capsys):
    remove(ledger)
    assert main(["verify", "--dir", str(ledger.folder)]) == 1
    (note,) = anchor_folder().iterdir()
    assert f"(noted in {note}: remove that file if this was meant)" in capsys.readouterr().err
    note.unlink()
    assert main(["verify", "--dir", str(ledger.folder)]) == 0


def test_notes_that_cannot_be_written_or_read_are_said(ledger, tmp_path):
    (note,) = anchor_folder().iterdir()
    note.write_text("{}")
    with pytest.raises(BrokenChain, match=r"the note .* is unreadable"):
        ledger.verify()
    shutil.rmtree(anchor_folder())
    anchor_folder().write_text("no folder")
    with pytest.raises(RequestError, match=r"privacy\.ledger_dir: got .*, see XDG_STATE_HOME"):
        ledger.begin(RUN)


def test_a_note_left_behind_by_a_kill_is_no_fault(tmp_path):
    anchor = Anchor(tmp_path / "state", "data")
    chain = Chain(tmp_path / "data.jsonl", "data", anchor)
    with chain.appending() as file:
        file.append({"kind": "note"})
        lines = list(file.lines)
    with chain.appending() as file:
        file.append({"kind": "note"})
    anchor.note(chain.path, lines)
    assert len(chain.read()[0]) == 2
