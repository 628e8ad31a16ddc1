"""What the runner takes from ``argparse`` beside its public interface, which never lists what a parser takes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

__all__ = ["arguments_of"]


def arguments_of(parser: argparse.ArgumentParser) -> Sequence[argparse.Action]:
    """Every flag and positional argument of ``parser``, in order."""
    return parser._actions
