"""Recipe Runner: compose, run and compare training recipes for vision models.

The Python interface: ``run`` a recipe, ``sweep`` several, ``plan`` what one would take, and ``load_run`` the model of a
finished run, ready to predict (docs/python.md).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runner.api.plan import RunPlan, plan
    from runner.api.run import Run, run
    from runner.api.sweep import Sweep, sweep
    from runner.errors import RequestError, RunError
    from runner.inference.predictor import load_run

__all__ = ["RequestError", "Run", "RunError", "RunPlan", "Sweep", "load_run", "plan", "run", "sweep"]

_HOMES = {
    "RequestError": "runner.errors",
    "Run": "runner.api.run",
    "RunError": "runner.errors",
    "RunPlan": "runner.api.plan",
    "Sweep": "runner.api.sweep",
    "load_run": "runner.inference.predictor",
    "plan": "runner.api.plan",
    "run": "runner.api.run",
    "sweep": "runner.api.sweep",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for, and torch with it where it needs that: the command line answers without."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
