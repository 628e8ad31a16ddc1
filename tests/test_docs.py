"""What the pages of docs/ name is there: paths, links and headings, and the names in docs/architecture.md."""

import ast
import re

import pytest

from tests.conftest import ROOT
from tests.test_structure import ORDER

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
TREE = ARCHITECTURE.split("```text\n", 1)[1].split("```", 1)[0].splitlines()
FILES = sorted((ROOT / "runner").rglob("*.py"))


def without_examples(page):
    """The page without blocks that show a file by its name in the first line: such a file may be one to add."""
    return re.sub(r"```\w*\n# \S+/\S+\.\w+\n.*?```", "", page, flags=re.S)


def missing_paths(page):
    """Paths below ``runner`` and ``tests`` that ``page`` names and that are not there."""
    named = re.findall(r"(?<![\w/.-])(?:runner|tests)/[\w./-]*", without_examples(page))
    return sorted({path for path in named if not (ROOT / path.rstrip(".")).exists()})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_on_a_page_exists(page):
    assert missing_paths(page.read_text()) == []


def test_a_path_that_is_not_there_would_be_seen():
    assert missing_paths("see `runner/utils/` and `runner/data/`.") == ["runner/utils/"]


def headings(page):
    """The anchors of ``page``, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page, flags=re.S), re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_on_a_page_leads_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http:", "https:", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        assert not anchor or anchor in headings(file.read_text()), target


def tree():
    """Path below the root of each entry of the tree -> what stands behind it."""
    found, above = {}, []
    for line in TREE:
        indent, name, meaning = re.fullmatch(r"( *)(\S+) *(.*)", line).groups()
        above = [*above[: len(indent) // 2], name.rstrip("/")]
        found["/".join(above)] = meaning
    return found


def test_the_tree_has_every_folder_and_nothing_else():
    folders = {str(file.parent.relative_to(ROOT)) for file in FILES}
    assert {path for path in tree() if path.startswith("runner") and not path.endswith(".py")} == folders
    assert [path for path in tree() if not (ROOT / path).exists()] == []


def test_the_files_in_the_tree_lie_in_their_folders():
    named = {f"{path}/{file}" for path, meaning in tree().items() for file in re.findall(r"\w+\.py", meaning)}
    assert len(named) > 90
    assert sorted(file for file in named if not (ROOT / file).exists()) == []


def test_the_order_of_imports_is_the_one_that_is_checked():
    rules = ARCHITECTURE.split("## The rules of the house", 1)[1]
    assert tuple(rules.split("```text\n", 1)[1].split("```", 1)[0].split()) == ORDER


def names_in(file):
    """What ``file`` defines: classes, functions, methods, variables and fields."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def test_the_names_in_the_architecture_exist_where_it_says():
    page = " ".join(without_examples(ARCHITECTURE).split())
    placed = re.findall(r"`(\w+)` (?:in|of|\() ?`(runner/[\w/]+\.py)`", page)
    assert len(placed) > 10
    assert [(name, file) for name, file in placed if name not in set(names_in(ROOT / file))] == []
    # and the others somewhere: names of ours, of keys, and of libraries that the code uses
    sources = [file.read_text() for file in [*FILES, *(ROOT / "conf").rglob("*.yaml")]]
    words = {word for source in sources for word in re.findall(r"\w+", source)}
    named = set(re.findall(r"`(?:\w+\.)*(\w*[_A-Z]\w*)(?:\(\))?`", page))
    assert len(named) > 40
    assert sorted(named - words) == []
