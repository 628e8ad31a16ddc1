"""The schema documents itself and nothing in it goes unchecked: found by walking it, so that a new field is tested."""

import ast
import dataclasses
import inspect
import typing

import pytest

from runner.config import schema
from runner.config.groups import CLOSED, OPEN, RECIPES, SECTIONS
from runner.config.rules.rules import FREE, RULES
from runner.config.store import root_node, shipped


def documented(source):
    """Class -> names of the fields that a string literal follows."""
    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef):
            pairs = zip(node.body, node.body[1:], strict=False)
            found[node.name] = {
                first.target.id
                for first, second in pairs
                if isinstance(first, ast.AnnAssign)
                and isinstance(second, ast.Expr)
                and isinstance(second.value, ast.Constant)
                and isinstance(second.value.value, str)
            }
    return found


def fields():
    """(dotted key, annotation) of every field that a user can set."""
    groups = {"": schema.RunConfig, **OPEN, **CLOSED, **SECTIONS, "data.augment": schema.AugmentConfig}
    for prefix, kind in groups.items():
        hints = typing.get_type_hints(kind)
        for field in dataclasses.fields(kind):
            if not dataclasses.is_dataclass(hints[field.name]):
                yield f"{prefix}.{field.name}".lstrip("."), hints[field.name]


KINDS = [kind for _, kind in inspect.getmembers(schema, dataclasses.is_dataclass)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_field_has_a_docstring(kind):
    names = {field.name for field in dataclasses.fields(kind)}
    undocumented = names - documented(inspect.getsource(inspect.getmodule(kind)))[kind.__name__]
    # The groups of the whole are documented by their own classes.
    assert undocumented <= ({*OPEN, *CLOSED, *SECTIONS} if kind is schema.RunConfig else set())


def test_the_walk_sees_a_field_without_docstring():
    assert documented("class A:\n    x: int = 0\n    '''X.'''\n    y: int = 1\n") == {"A": {"x"}}


@pytest.mark.parametrize(("key", "kind"), list(fields()), ids=lambda value: value if isinstance(value, str) else "")
def test_every_field_has_a_rule_or_a_reason(key, kind):
    boolean = kind in (bool, bool | None)
    handled = key in RULES or key in FREE or boolean or key.endswith((".target", ".options"))
    assert handled, f"{key} needs a rule in runner.config.rules.rules, or a Literal as its type"
    assert not (key in RULES and key in FREE)


def test_no_rule_is_left_over():
    known = {key for key, _ in fields()}
    of_options = {key for key in RULES if key not in known}
    assert {key.split(".")[0] for key in of_options} <= set(OPEN)
    assert set(FREE) <= known | {"data.augment"}


def test_the_root_holds_every_group_and_key():
    assert [*root_node()] == [field.name for field in dataclasses.fields(schema.RunConfig)]
    assert {*OPEN, *CLOSED, *SECTIONS} <= {*root_node()}
    folders = {path.name for path in shipped("conf").iterdir() if path.is_dir()}
    assert folders - {"hydra"} == {*OPEN, *CLOSED, *RECIPES} - {"sweep"}
