"""A private recipe is recommended with what publishing it spends, which is more than the epsilon of its run."""

import json

import pytest

from runner.errors import RunError
from runner.report.cells import read_sweep
from runner.report.findings import find
from tests.report.sweep_folders import write_sweep

TOGETHER = {"epsilon": 9.98, "delta": 1e-5, "accountant": "pld"}


def verdict_of(folder, *, together=TOGETHER, ordinary=0, spending=True, private=("8", "1")):
    """That of a sweep of two epsilons and five seeds, in which the smaller epsilon costs nothing."""
    cells = [
        (f"privacy.epsilon={value} seed={seed}", 0.9 + seed / 1000, {"epsilon": float(value)})
        for value in private
        for seed in range(5)
    ]
    write_sweep(folder, cells, comparison={"decision": "epsilon"})
    if spending:
        told = [
            {"cell": str(number), "private": True, "epsilon": figures["epsilon"]}
            for number, (_, _, figures) in enumerate(cells)
        ]
        data = [{"data": "d", "cells": told, "publish_all": together, "publish_best": {**together, "by": "b"}}]
        found = {"sweep": "s", "cells_without_privacy": ordinary, "data": data}
        (folder / "privacy.json").write_text(json.dumps(found))
    return find(read_sweep(folder)).verdict


def test_publishing_spends_what_the_sweep_has_spent_whichever_recipe_is_chosen(tmp_path):
    verdict = verdict_of(tmp_path)
    assert verdict.startswith("Use epsilon=1: ε = 1.00 instead of ε = 8.00;")
    price = (
        "Publishing a run of epsilon=1 spends ε = 9.98 at δ = 1e-05, not the 1.00 of a run alone: choosing it looked at"
        " 10 private runs."
    )
    assert price in verdict


def test_runs_without_privacy_that_were_looked_at_are_named(tmp_path):
    assert "looked at 10 private runs and at 5 without privacy, which no ε covers." in verdict_of(tmp_path, ordinary=5)


def test_what_is_void_or_not_known_is_no_figure(tmp_path):
    """Negative control: the ε of the run alone would look like a price."""
    (tmp_path / "void").mkdir()
    void = verdict_of(tmp_path / "void", together={**TOGETHER, "epsilon": None})
    assert "No ε is known for publishing a run of epsilon=1" in void
    (tmp_path / "none").mkdir()
    none = verdict_of(tmp_path / "none", spending=False)
    assert "What publishing a run of epsilon=1 spends is not known" in none
    assert "Publishing a run of epsilon=1 spends" not in void + none


def test_a_damaged_record_is_refused(tmp_path):
    verdict_of(tmp_path)
    for damage in ("[]", "{", '{"data": [{}]}'):
        (tmp_path / "privacy.json").write_text(damage)
        with pytest.raises(RunError, match=r"privacy\.json: not a record of what was spent"):
            _ = find(read_sweep(tmp_path)).verdict
