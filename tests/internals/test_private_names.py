"""Private parts of other libraries are used in ``runner/internals`` alone, and docs/internals.md lists each of them."""

import re

import pytest

from tests.conftest import ROOT
from tests.internals.private_names import private_names

HOME = ROOT / "runner" / "internals"
OUTSIDE = [path for path in sorted((ROOT / "runner").rglob("*.py")) if HOME not in path.parents]
PAGE = ROOT / "docs" / "internals.md"


def rows():
    """File -> the cells of its row in the tables of the page."""
    found = {}
    for line in PAGE.read_text().splitlines():
        if line.startswith("| `"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            found[cells[0].strip("`")] = cells
    return found


def test_nothing_outside_of_the_package_uses_a_private_part():
    used = {str(path.relative_to(ROOT)): sorted(set(private_names(path.read_text()))) for path in OUTSIDE}
    assert not {file: names for file, names in used.items() if names}


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("import torch\ntorch._foreach_mul_([], 2)", "_foreach_mul_"),
        ("import torch\ntorch._foreach_norm([])", "_foreach_norm"),
        ("def f(x):\n    return x.grad._version", "_version"),
        ("from torch._C import _autograd", "_autograd"),
        ("from hydra._internal.utils import get_args_parser", "get_args_parser"),
        ("import torch._dynamo", "torch._dynamo"),
        ("from torch.nn.modules.batchnorm import _BatchNorm", "_BatchNorm"),
        ("getattr(study, '_storage')", "_storage"),
        ("import importlib\nimportlib.import_module('torch._inductor.config')", "torch._inductor.config"),
        ("exec('')", "exec"),
        # the same name in a class of one's own hides nothing of torch's
        ("class A:\n    def __init__(self, m):\n        self._buffers = m._buffers", "_buffers"),
    ],
)
def test_the_question_notices(source, name):
    assert list(private_names(source)) == [name]


@pytest.mark.parametrize(
    "source",
    [
        "class A:\n    def copy(self, other):\n        self._x = other._x",
        "import os\nos._exit(1)",
        "config.hydra.sweeper._target_",
        "type(x).__mro__",
        "from runner.models.norm import _group_norm",
    ],
)
def test_what_is_ones_own_or_public_is_left_alone(source):
    assert not list(private_names(source))


def test_the_page_lists_every_file_and_no_other():
    files = {path.name for path in HOME.glob("*.py")} - {"__init__.py", "plain.py"}
    assert set(rows()) == files


@pytest.mark.parametrize("file", sorted({path.name for path in HOME.glob("*.py")} - {"__init__.py", "plain.py"}))
def test_the_page_names_what_each_file_uses(file):
    cells = rows()[file]
    assert set(re.findall(r"`([^`]+)`", cells[1])) == set(private_names((HOME / file).read_text()))
    tests = re.findall(r"`(tests/[^`]+)`", cells[4])
    assert tests, "each detour is tested"
    assert all((ROOT / test).is_file() for test in tests)
    assert all(cells)
