"""The packages of the user's own whose code a configuration may name, and where they are looked for."""

from __future__ import annotations

import os
import sys
from pathlib import Path

TRUSTED_VARIABLE = "RECIPE_RUNNER_TARGETS"
"""Environment variable with further packages, separated by commas, that a ``_target_`` may name.  It is read from the
environment and from nowhere else, so that a configuration from somebody else cannot extend what it may import."""


def own_packages() -> tuple[str, ...]:
    """The packages and import paths of ``RECIPE_RUNNER_TARGETS``."""
    entries = os.environ.get(TRUSTED_VARIABLE, "").split(",")
    return tuple(name for name in (entry.strip().removesuffix(".*") for entry in entries) if name)


def allow_working_folder() -> None:
    """Let packages that the user allows be imported from the working folder, as ``python -m`` does by itself.

    A console script has its own folder on the path in place of it.  It comes last here: nothing that is installed is
    taken from there.
    """
    here = str(Path.cwd())
    if own_packages() and not sys.flags.safe_path and not {"", here} & set(sys.path):
        sys.path.append(here)
