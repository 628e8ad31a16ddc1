"""Streams that lack letters: nothing that is printed may end a command."""

import io
import sys

import pytest

from runner.environment.text_encoding import encodable_text
from runner.processes import command_end
from runner.processes.command_end import run_command

TEXT = "ε=3 ± 1 % caf\udce9 é 日 \x1b"


def say():
    print(TEXT)
    return 0


@pytest.mark.parametrize(("encoding", "written"), [
    ("ascii", b"epsilon=3 +/- 1 % caf\\xe9 \\xe9 \\u65e5 \x1b\n"),
    ("latin-1", b"epsilon=3 \xb1 1 % caf\\xe9 \xe9 \\u65e5 \x1b\n"),
    ("utf-8", "ε=3 ± 1 % caf\\xe9 é 日 \x1b\n".encode()),
])  # fmt: skip
def test_a_letter_that_is_lacking_is_spelled(monkeypatch, encoding, written):
    page = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(page, encoding=encoding))
    assert run_command(say) == 0
    assert page.getvalue() == written
    assert f"{encodable_text(TEXT, encoding)}\n".encode(encoding) == written


def test_without_that_the_same_text_ends_a_command(monkeypatch):
    monkeypatch.setattr(command_end, "escape_unencodable", lambda: None)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    with pytest.raises(UnicodeEncodeError):
        run_command(say)
