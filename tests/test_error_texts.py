"""What libraries say of failures that have no class is read in one place, and is what they still say."""

import ast
import errno
import os

import pytest
import torch
from torch import nn

from runner.error_texts import (
    disk_error_text,
    has_too_few_values,
    is_out_of_memory,
    reads_numbers,
    unexpected_argument,
)
from tests.conftest import ROOT


def _is_text_of_error(node):
    """``str(error)``, ``f"{error}"`` or ``error.args``: what an exception says."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Call) and ast.unparse(inner.func) == "str" and inner.args:
            inner = inner.args[0]
        elif not (isinstance(inner, ast.Attribute) and inner.attr == "args"):
            continue
        if any(word in ast.unparse(inner) for word in ("error", "failure", "cause", "exc")):
            return True
    return False


def decisions_by_text(source):
    """Lines where a condition looks into what an exception says."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare) and any(isinstance(op, ast.In | ast.NotIn) for op in node.ops):
            looked_into = node.comparators
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _LOOKS:
            looked_into = [node.func.value, *node.args]
        else:
            continue
        if any(_is_text_of_error(part) for part in looked_into):
            yield ast.unparse(node)


_LOOKS = ("startswith", "endswith", "match", "search", "fullmatch")

_WORDS = {
    # which key or file a line of Hydra's and OmegaConf's is about, to be named in ours: nothing else follows from it
    "config/compose.py": 3,
}


def test_no_decision_is_taken_by_what_an_exception_says():
    found = {}
    for path in sorted((ROOT / "runner").rglob("*.py")):
        if path.name != "error_texts.py" and (lines := list(decisions_by_text(path.read_text()))):
            found[str(path.relative_to(ROOT / "runner"))] = lines
    assert {path: len(lines) for path, lines in found.items()} == _WORDS, found


@pytest.mark.parametrize(
    "line",
    [
        '"memory" in str(error)',
        'str(record.error).startswith("x")',
        're.match("x", str(cause))',
        '"x" in failure.args[0]',
    ],
)
def test_such_a_decision_would_be_seen(line):
    assert list(decisions_by_text(f"if {line}:\n    pass"))


@pytest.mark.parametrize(
    "function",
    [
        lambda row: row * row.sum().item(),
        lambda row: row if row.sum() > 0 else -row,
        lambda row: row[row > 0],
        lambda row: row.nonzero(),
        lambda row: torch.tensor(row.tolist()),
    ],
)
def test_vmap_says_that_numbers_are_read(function):
    with pytest.raises(RuntimeError) as failed:
        torch.func.vmap(function)(torch.ones(2, 3))
    assert reads_numbers(failed.value)


def test_vmap_says_something_else_of_other_failures():
    with pytest.raises(RuntimeError) as failed:
        torch.func.vmap(lambda row: row @ torch.ones(4))(torch.ones(2, 3))
    assert not reads_numbers(failed.value)


def test_too_few_values():
    with pytest.raises(ValueError, match="per channel") as failed:
        nn.BatchNorm1d(3)(torch.ones(1, 3))
    assert has_too_few_values(failed.value)
    with pytest.raises(ValueError, match="expected 2D or 3D") as failed:
        nn.BatchNorm1d(3)(torch.ones(1, 3, 1, 1))
    assert not has_too_few_values(failed.value)


def test_out_of_memory():
    with pytest.raises(RuntimeError) as failed:
        torch.empty(1 << 50)
    assert is_out_of_memory(failed.value)
    assert is_out_of_memory(torch.OutOfMemoryError("a class says it, whatever the words"))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_an_argument_that_is_not_expected():
    with pytest.raises(TypeError) as failed:
        nn.Linear(1, 1, widths=3)
    assert unexpected_argument(failed.value) == "widths"
    with pytest.raises(TypeError) as failed:
        nn.Linear()
    assert unexpected_argument(failed.value) is None


def test_trouble_with_a_disk():
    assert disk_error_text(RuntimeError(f"g++: {os.strerror(errno.ENOSPC)}: /tmp/x.o")) == os.strerror(errno.ENOSPC)
    assert disk_error_text(RuntimeError("g++: syntax error")) is None
