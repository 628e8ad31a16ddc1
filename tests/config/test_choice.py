"""Changed copies of plans and configurations, and who chose what stands in them."""

import ast
import dataclasses
import typing

import pytest

from runner.config.choice import evolve
from runner.config.schema import RunConfig
from runner.planning.plan import Plan
from runner.planning.restore import performance_of
from tests.conftest import ROOT


def test_parts_at_any_depth_are_changed_and_the_others_shared(configure):
    before = configure()
    after = evolve(before, {"seed": 5, "optimizer.lr": 0.5, "optimizer.name": "x", "data.augment.flip": True})
    assert (after.seed, after.optimizer.lr, after.optimizer.name, after.data.augment.flip) == (5, 0.5, "x", True)
    assert before == configure()
    assert after.model is before.model
    assert evolve(after, {"seed": before.seed, "optimizer": before.optimizer, "data": before.data}) == before


@pytest.mark.parametrize("name", ["sed", "optimizer.rate", "optimiser.lr", "seed.x"])
def test_what_is_not_there_cannot_be_changed(configure, name):
    with pytest.raises((TypeError, AttributeError)):
        evolve(configure(), {name: 1})


def _names(kind, prefix=""):
    for name, hint in typing.get_type_hints(kind).items():
        yield f"{prefix}{name}"
        for part in (hint, *typing.get_args(hint)):
            if dataclasses.is_dataclass(part):
                yield from _names(part, f"{prefix}{name}.")


def test_every_name_that_the_code_changes_exists():
    known = {*_names(Plan), *_names(RunConfig), "config.data.root"}
    seen = set()
    for path in sorted((ROOT / "runner").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "evolve":
                keys = [key for part in ast.walk(node) if isinstance(part, ast.Dict) for key in part.keys]
                seen |= {key.value for key in keys if isinstance(key, ast.Constant)}
    assert "semantic.precision.dtype" in seen
    assert not seen - known


@pytest.mark.parametrize(("reason", "source"), [(None, "request"), ("8 take 1.0 GiB", "measurement")])
def test_a_plan_of_an_earlier_version_says_by_its_reason_whether_its_batch_was_measured(reason, source):
    assert performance_of({"performance": {"batch_size": 8, "batch_reason": reason}})["batch_source"] == source
    stated = {"performance": {"batch_size": 8, "batch_reason": reason, "batch_source": "rule"}}
    assert performance_of(stated)["batch_source"] == "rule"
