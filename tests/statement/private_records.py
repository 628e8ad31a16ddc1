"""Folders of private runs with figures of one's choice, written as the runner writes them."""

import json
from unittest import mock

from runner.privacy.ledger import ledger as ledgers
from runner.privacy.ledger.ledger import Ledger, PlannedRun
from runner.records.run_file import PrivacySpent, RunRecord, write_run

ORIGIN = "0123456789abcdef" * 4
MECHANISM = {
    "delta": 1e-5,
    "noise_multiplier": 1.311,
    "max_grad_norm": 1.0,
    "sample_rate": 64 / 1257,
    "accountant": "pld",
    "adjacency": "add or remove one training example",
    "sampling": "Poisson",
}


def write_private(folder, *, status="completed", epsilon=2.998, weights=None, steps=120, finished="2026-11-30T12:00:00",
                  name="digits-mlp-dp-float32-s0", augment=None, **planned):  # fmt: skip
    """A private run in ``folder``; ``steps`` None leaves out what it spent, as a run does that failed."""
    privacy = {
        **MECHANISM,
        "epsilon": 2.998,
        "unsafe_noise_seed": None,
        "validation": "private",
        "draws": "example",
        **planned,
    }
    spent = None
    if steps is not None:
        spent = PrivacySpent(**MECHANISM, epsilon=None if privacy["unsafe_noise_seed"] else epsilon, steps=steps)
    data = {"name": "digits", "origin": ORIGIN, "examples": 1257, "augment": augment or {}}
    model = {"name": "mlp", "target": "runner.models.dense.mlp", "options": {}}
    semantic = {"data": data, "model": model, "weights": weights, "steps": 120, "privacy": privacy}
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text("[]")
    (folder / ".hydra" / "config.yaml").write_text("seed: 0")
    plan = {"identity": "one", "semantic": semantic}
    write_run(folder, RunRecord(name=name, status=status, plan=plan, privacy=spent, finished=finished))
    return folder


def write_ledger(folder, *runs):
    """A ledger in ``folder`` of ``runs``: (folder, and what is otherwise than usual), each of them ended."""
    usual = {
        **{key: value for key, value in MECHANISM.items() if key != "max_grad_norm"},
        **{"data": "digits", "examples": 1257, "identity": "one", "name": "digits-mlp", "sweep": None},
        **{"private": True, "steps": 120, "epsilon": 2.998, "validation": "private", "draws": "example"},
    }
    for run, changed in runs:
        with mock.patch.object(ledgers, "_now", return_value="2026-11-30T11:00:00+00:00"):
            session = Ledger(folder, ORIGIN).begin(PlannedRun(folder=run, **{**usual, **changed}))
            for step in (60, 120):
                session.steps = step
                session.evaluate()
            session.end("completed", 2.998)
    return str(folder)


def write_sum(sweep_dir, cells, *, best, by, best_cell=None, everything=5.914):
    """``privacy.json`` of a sweep."""
    bound = {"delta": 1e-5, "accountant": "pld"}
    data = {
        "data": "digits",
        "cells": [{"cell": name, "private": True, "epsilon": 2.998} for name in cells],
        "cells_not_private": 0,
        "evaluations_without_noise": 0,
        "note": None,
        "publish_all": {**bound, "epsilon": everything},
        "publish_best": {**bound, "epsilon": best, "by": by},
    }
    sweep_dir.mkdir(parents=True, exist_ok=True)
    (sweep_dir / "privacy.json").write_text(json.dumps({"sweep": "s", "best_cell": best_cell, "data": [data]}))


def write_audit(run_dir, *, passed=True, **other):
    """An audit of the run in ``run_dir``, or of one whose mechanism is ``other``."""
    plan = json.loads((run_dir / "run.json").read_text())["plan"]
    plan["semantic"]["privacy"] |= other
    found = {
        "passed": passed,
        "failures": [] if passed else ["lower bound"],
        "epsilon": {
            "lower_bound": 0.8719 if passed else 4.209,
            "confidence": 0.95,
            "claimed": 2.998,
            "measurable": 4.17,
        },
        "plan": plan,
        "finished": "2026-12-01T09:00:00.000+00:00",
    }
    (run_dir / "audit.json").write_text(json.dumps(found))
