"""The chained file: nothing whole is lost to a kill, nothing written can be changed unseen, two writers do not mix."""

import json
import os
import random
import subprocess
import sys
import time

import pytest

from runner.privacy.ledger.chain import BrokenChain, Chain
from tests.conftest import ROOT

# says after each append how many lines it was promised; its kernel takes a few bytes at a time, as one may on a full or
# slow disk, so that a kill hits the middle of a line
WRITER = """
import os, sys, time
from pathlib import Path
whole_write = os.write
def slow_write(handle, content):
    time.sleep(0.0005)
    return whole_write(handle, content[:int(sys.argv[4])])
os.write = slow_write
from runner.privacy.ledger.chain import Chain
chain = Chain(Path(sys.argv[1]), "data")
for turn in range(int(sys.argv[3])):
    with chain.appending() as file:
        file.append({"kind": "note", "writer": sys.argv[2], "turn": turn, "filling": "x" * 5000})
        print(len(file.lines), flush=True)
"""


def writer(path, name, turns, piece):
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), name, str(turns), str(piece)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def chain(tmp_path):
    chain = Chain(tmp_path / "data.jsonl", "data")
    for turn in range(5):
        with chain.appending() as file:
            file.append({"kind": "note", "turn": turn, "share": 0.1})
    return chain


def rewrite(chain, change):
    lines = chain.path.read_bytes().splitlines(keepends=True)
    chain.path.write_bytes(b"".join(change(lines)))


def test_it_returns_what_was_written(chain):
    lines, torn = chain.read()
    assert [(line["line"], line["turn"], line["share"]) for line in lines] == [(i + 1, i, 0.1) for i in range(5)]
    assert not torn
    assert Chain(chain.path.with_name("other.jsonl"), "other").read() == ([], False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [*lines[:2], lines[2].replace(b'"turn":2', b'"turn":7'), *lines[3:]], "line 3 was edited"),
        (lambda lines: [*lines[:2], lines[2].replace(b":", b": ", 1), *lines[3:]], "line 3 was edited"),
        (lambda lines: [*lines[:4], lines[4].replace(b"0.1", b"0.2")], "line 5 was edited"),
        (lambda lines: [*lines[:2], *lines[3:]], "line 3 does not follow"),
        (lambda lines: lines[1:], "line 1 does not follow"),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], "line 2 does not follow"),
        (lambda lines: lines[:4], "line 5 is missing"),
        (lambda lines: [*lines[:4], lines[4][:-9]], "line 5 is missing"),
        (lambda lines: [], "line 1 is missing"),
        (lambda lines: [*lines, lines[4]], "line 6 does not follow"),
        (lambda lines: [*lines[:3], b"\n", *lines[3:]], "line 4 is no line of a ledger"),
    ],
    ids=["edit", "spelling", "last", "delete", "first", "reorder", "truncate", "cut", "empty", "repeat", "blank"],
)
def test_tampering_shows_and_stops_further_records(chain, change, message):
    rewrite(chain, change)
    before = chain.path.read_bytes()
    with pytest.raises(BrokenChain, match=message):
        chain.read()
    with pytest.raises(BrokenChain, match=message), chain.appending():
        pass
    assert chain.path.read_bytes() == before


def test_a_removed_file_shows(chain):
    chain.path.unlink()
    with pytest.raises(BrokenChain, match="line 1 is missing"):
        chain.read()


def test_a_line_made_up_by_somebody_else_shows_in_the_head(chain):
    lines, _ = chain.read()
    for turn in (5, 6):
        lines.append(chain.next_line(lines, {"kind": "note", "turn": turn}))
    with chain.path.open("a") as file:
        for line in lines[5:]:
            file.write(json.dumps(line, sort_keys=True, separators=(",", ":")) + "\n")
    with pytest.raises(BrokenChain, match="line 7 was added"):
        chain.read()


def test_the_file_of_other_data_does_not_verify(chain):
    with pytest.raises(BrokenChain, match="line 1 does not follow"):
        Chain(chain.path, "other").read()


def test_a_last_line_torn_at_any_byte_is_cut_off_and_no_other(chain):
    whole = chain.path.read_bytes()
    lines, _ = chain.read()
    # longer than the line that follows, which would otherwise cover it
    longer = chain.next_line(lines, {"kind": "note", "turn": 5, "filling": "x" * 200})
    extra = json.dumps(longer, sort_keys=True, separators=(",", ":"))
    head = chain.head.read_bytes()
    for end in range(1, len(extra) + 1, 7):
        chain.head.write_bytes(head)
        chain.path.write_bytes(whole + extra.encode()[:end])
        assert chain.read() == (lines, True)
        with chain.appending() as file:
            file.append({"kind": "note", "turn": 6})
        after, torn = chain.read()
        assert not torn
        assert after[:5] == lines
        assert after[5]["turn"] == 6


def test_a_head_that_a_kill_left_behind_is_brought_up(chain):
    older = chain.head.read_bytes()
    with chain.appending() as file:
        file.append({"turn": 5})
    chain.head.write_bytes(older)  # killed between line and head
    with chain.appending() as file:
        file.append({"turn": 6})
    chain.head.write_bytes(older)  # two behind: this is no kill
    with pytest.raises(BrokenChain, match="line 7 was added"):
        chain.read()


def test_kill_9_at_random_moments_loses_no_line_that_was_promised(tmp_path):
    draw = random.Random(3)
    chain = Chain(tmp_path / "data.jsonl", "data")
    torn_lines = 0
    for _ in range(20):
        process = writer(chain.path, "killed", 10**6, 100)
        first = process.stdout.readline()
        time.sleep(draw.uniform(0.0, 0.1))
        process.kill()
        promised = [int(number) for number in (first + process.communicate()[0]).split()]
        lines, torn = chain.read()
        torn_lines += torn
        assert [line["line"] for line in lines] == list(range(1, len(lines) + 1))
        assert promised[-1] <= len(lines) <= promised[-1] + 1
    with chain.appending() as file:
        file.append({"kind": "last"})
    assert chain.read()[0][-1]["kind"] == "last"
    assert torn_lines, "no kill hit a write, so this has shown nothing"


def test_two_processes_append_at_once(tmp_path):
    chain = Chain(tmp_path / "data.jsonl", "data")
    processes = [writer(chain.path, name, 40, 2000) for name in ("a", "b")]
    assert [process.wait(timeout=60) for process in processes] == [0, 0]
    for process in processes:
        process.stdout.close()
    lines, _ = chain.read()
    assert len(lines) == 80
    for name in ("a", "b"):
        assert [line["turn"] for line in lines if line["writer"] == name] == list(range(40))
