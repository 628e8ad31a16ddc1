"""Recipe Runner: compose, run and compare training recipes for vision models.

``load_run(DIR)`` gives the model of a finished run, ready to predict (``runner.inference.predictor``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runner.inference.predictor import load_run

__all__ = ["load_run"]


def __getattr__(name: str) -> Any:
    """Import ``load_run``, and torch with it, when somebody asks for it: the command line answers without."""
    if name == "load_run":
        from runner.inference.predictor import load_run

        return load_run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
