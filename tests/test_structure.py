"""The shape of the code: imports point down the data flow, and what answers early never imports torch."""

import ast
import sys
from importlib.metadata import packages_distributions

import pytest

from tests.conftest import ROOT

# each folder may import itself and what stands before it
ALLOWED = {
    "config": {"config"},
    "disk": {"disk"},
    "plan": {"config", "plan"},
    "data": {"config", "disk", "data"},
    "models": {"config", "models"},
    "optim": {"config", "optim"},
    "privacy": {"config", "disk", "models", "optim", "privacy"},
    "records": {"config", "disk", "plan", "records"},
    "statement": {"config", "disk", "privacy", "records", "statement"},
    "training": {"config", "disk", "plan", "data", "models", "optim", "privacy", "records", "training"},
    "search": {"config", "disk", "privacy", "records", "search"},
    "sweeping": {"config", "disk", "records", "training", "attempt", "sweeping"},
    "inference": {
        *("config", "disk", "plan", "data", "models", "privacy", "records", "statement", "training", "inference"),
    },
    "estimate": {
        *(
            "config",
            "disk",
            "plan",
            "data",
            "models",
            "optim",
            "privacy",
            "records",
            "training",
            "sweeping",
            "estimate",
        ),
    },
    "report": {"config", "disk", "records", "statement", "report"},
    "compare": {
        *("config", "disk", "plan", "data", "models", "optim", "privacy", "records", "training", "report", "compare"),
    },
    "audit": {
        *("config", "disk", "plan", "data", "models", "optim", "privacy", "records", "training", "inference", "audit"),
    },
    "bench": {
        *("config", "disk", "plan", "data", "models", "optim", "privacy", "records", "training", "estimate"),
        "bench",
    },
}
FILES = sorted((ROOT / "runner").rglob("*.py"))


def imports(path, *, at_runtime_only=False):
    """(module, inside a function?) of every import; those for type checkers are left out on request."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    late = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if at_runtime_only and id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) in late
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, id(node) in late


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down_the_flow(path):
    parts = path.relative_to(ROOT / "runner").parts
    if len(parts) == 1:
        return  # the front may use everything
    for module, _ in imports(path, at_runtime_only=True):
        if module.startswith("runner."):
            target = module.split(".")[1]
            late_allowed = (parts[0], target) in LATE
            assert target in ALLOWED[parts[0]] or late_allowed, f"{parts[0]} imports {module}"


# the plan asks the accountant to solve for the noise, and its command hands over; what a sweep asks of the layers below
# is loaded when there is something to ask
LATE = {
    ("plan", "estimate"),
    ("estimate", "sweep_budget"),
    ("plan", "privacy"),
    ("sweeping", "job"),
    ("sweeping", "privacy"),
    ("sweeping", "sweep_spending"),
    ("search", "sweep_spending"),
    ("search", "sweep_draws"),
    ("sweeping", "sweep_draws"),
    ("sweeping", "sweep_budget"),
}


@pytest.mark.parametrize("folder", ["config", "plan"])
def test_what_answers_early_imports_no_torch(folder):
    for path in sorted((ROOT / "runner" / folder).glob("*.py")):
        early = [module for module, late in imports(path, at_runtime_only=True) if not late]
        assert not [module for module in early if module.split(".")[0] in ("torch", "torchvision", "opacus", "wandb")]


def test_no_file_is_named_for_nothing():
    assert not [path for path in FILES if path.stem in ("utils", "util", "helpers", "common", "misc")]


def test_no_test_hides_a_package():
    # the folders of tests stand on the path while they run
    found = {path.stem for path in (ROOT / "tests").rglob("*.py")}
    installed = {name for names in (sys.stdlib_module_names, packages_distributions()) for name in names}
    assert not found & installed - {"conftest"}


def test_files_stay_small():
    assert not [path.name for path in FILES if len(path.read_text().splitlines()) > 400]
