"""torch's compiler by the names that it has inside of torch."""

from __future__ import annotations

import importlib

COMPILER = "torch._dynamo"
"""The module that takes 0.7 s to import."""


def load_compiler() -> None:
    """Import torch's compiler now, and not in the middle of something else."""
    importlib.import_module(COMPILER)


def compiler_failures() -> type[Exception]:
    """The class of what ``torch.compile`` raises where it, and not the model, fails; imports the compiler."""
    from torch._dynamo.exc import TorchDynamoException

    return TorchDynamoException
