"""The shape of the code: imports run one way, in no circle, and late only where start-up needs it; no exceptions."""

import ast
import sys
from importlib.metadata import packages_distributions

import pytest

from tests.conftest import ROOT

ORDER = (
    *("errors", "error_texts", "disk", "environment", "internals", "config", "processes", "data", "models", "optim"),
    *("privacy", "planning", "records", "tasks", "statement", "training", "inference", "autotune", "report", "verify"),
    *("execution", "sweeping", "live", "search", "forecast", "audit", "bench", "api", "commands"),
    *("__init__", "__main__"),
)
"""What stands directly under ``runner/``: each may import itself and what stands to its left."""
LATE_AT_MOST = 61
"""Imports within functions, of the project's own modules and of others' packages; Python's own do not count."""
LIGHT = ("hydra", "omegaconf", "yaml", "antlr4")
"""Packages that every command needs before it can answer."""
FILES = sorted((ROOT / "runner").rglob("*.py"))


class Import:
    """An import statement: the modules that it loads, and whether it waits within a function."""

    def __init__(self, names, line, late):
        self.names, self.line, self.late = names, line, late

    def others(self):
        """Names of the packages of others that it loads."""
        tops = {name.split(".")[0] for name in self.names}
        return tops - {"runner", "__future__"} - sys.stdlib_module_names

    def own(self):
        return {name for name in self.names if name.split(".")[0] == "runner"}


def module_of(path, root=ROOT):
    """``runner.data.feed``; of the file of a package ``runner.data``, and of the outermost ``runner.__init__``."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)


def read_imports(text, modules):
    """Every ``Import`` of a file but those for type checkers; ``modules`` are the names of all modules there are."""

    def walk(node, late):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                for other in child.orelse:
                    yield from walk(ast.Module([other], []), late)
                continue
            if isinstance(child, ast.Import):
                yield Import([alias.name for alias in child.names], child.lineno, late)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, "a relative import"
                inner = [f"{child.module}.{alias.name}" for alias in child.names]
                yield Import([name if name in modules else child.module for name in inner], child.lineno, late)
            function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from walk(child, late or function)

    return list(walk(ast.parse(text), late=False))


def read_all():
    """Module -> its imports."""
    modules = {module_of(path) for path in FILES}
    return {module_of(path): read_imports(path.read_text(), modules) for path in FILES}


def unit_of(module):
    return module.split(".")[1] if "." in module else "__init__"


def upward(found):
    """Imports of what stands further right."""
    rank = {unit: place for place, unit in enumerate(ORDER)}
    return [
        f"{module}:{one.line} imports {name}"
        for module, imports in found.items()
        for one in imports
        for name in one.own()
        if rank[unit_of(name)] > rank[unit_of(module)]
    ]


def circles(found):
    """Modules that import each other, directly or through others, late imports included (Tarjan 1972)."""
    graph = {module: {name for one in imports for name in one.own()} & set(found) for module, imports in found.items()}
    index, low, stack, known = {}, {}, [], []

    def visit(module):
        index[module] = low[module] = len(index)
        stack.append(module)
        for name in graph[module]:
            if name not in index:
                visit(name)
            if name in stack:
                low[module] = min(low[module], low[name])
        if low[module] == index[module]:
            place = stack.index(module)
            if len(stack) - place > 1 or module in graph[module]:
                known.append(sorted(stack[place:]))
            del stack[place:]

    for module in graph:
        if module not in index:
            visit(module)
    return known


def heavy_modules(found):
    """The modules that load somebody else's package, one that not every command needs, when they are imported."""
    early = {module: [one for one in imports if not one.late] for module, imports in found.items()}
    heavy = {module for module, ones in early.items() if any(one.others() - set(LIGHT) for one in ones)}
    while more := {module for module, ones in early.items() if any(one.own() & heavy for one in ones)} - heavy:
        heavy |= more
    return heavy


def late_imports(found):
    """(where, the import) of those within functions."""
    return [
        (f"{module}:{one.line}", one)
        for module, imports in found.items()
        for one in imports
        if one.late and (one.own() or one.others())
    ]


def needlessly_late(found):
    """Imports within functions that load nothing heavy."""
    heavy = heavy_modules(found)
    return [f"{where} {one.names}" for where, one in late_imports(found) if not (one.others() or one.own() & heavy)]


@pytest.fixture(scope="module")
def found():
    return read_all()


def test_imports_run_one_way(found):
    assert {unit_of(module) for module in found} == set(ORDER)
    assert upward(found) == []


def test_no_files_import_each_other(found):
    assert circles(found) == []


def test_imports_wait_for_start_up_alone(found):
    assert needlessly_late(found) == []
    assert len(late_imports(found)) <= LATE_AT_MOST


@pytest.mark.parametrize("late", [False, True])
def test_an_upward_import_and_a_circle_are_seen(found, late):
    place = "    " if late else ""
    text = f"def f():\n{place}import runner.execution.job\n" if late else "import runner.execution.job\n"
    worse = {**found, "runner.data.feed": found["runner.data.feed"] + read_imports(text, set(found))}
    assert [line.partition(":")[0] for line in upward(worse)] == ["runner.data.feed"]
    assert any({"runner.data.feed", "runner.execution.job"} <= set(circle) for circle in circles(worse))


def test_a_late_import_without_a_reason_is_seen(found):
    text = "def f():\n    from runner.disk.files import write_text\n    import json\n    import torch\n"
    worse = {**found, "runner.execution.job": found["runner.execution.job"] + read_imports(text, set(found))}
    assert needlessly_late(worse) == ["runner.execution.job:2 ['runner.disk.files']"]
    assert len(late_imports(worse)) == len(late_imports(found)) + 2


def test_what_type_checkers_read_is_no_import():
    text = "if TYPE_CHECKING:\n    import torch\nelse:\n    import numpy\n"
    assert [one.names for one in read_imports(text, set())] == [["numpy"]]


@pytest.mark.parametrize("unit", ["commands", "config", "environment", "disk"])
def test_what_answers_early_imports_no_torch(found, unit):
    """Directly or through others; what a command does once the request is checked stands in files of its own."""
    early = {module: {n for one in ones if not one.late for n in one.names} for module, ones in found.items()}
    loads = {module for module, names in early.items() if any(name.split(".")[0] == "torch" for name in names)}
    while more := {module for module, names in early.items() if names & loads} - loads:
        loads |= more
    assert not [module for module in loads if unit_of(module) == unit]


def test_no_file_is_named_for_nothing():
    assert not [path for path in FILES if path.stem in ("utils", "util", "helpers", "common", "misc")]


def test_no_test_hides_a_package():
    # the folders of tests stand on the path while they run
    found = {path.stem for path in (ROOT / "tests").rglob("*.py")}
    installed = {name for names in (sys.stdlib_module_names, packages_distributions()) for name in names}
    assert not found & installed - {"conftest"}


def test_files_stay_small():
    assert not [path.name for path in FILES if len(path.read_text().splitlines()) > 400]
