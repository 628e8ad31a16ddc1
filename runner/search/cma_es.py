"""Optuna's CMA-ES, reading what a study keeps of it as data.

Optuna pickles the state of its optimizer into the study, and whoever can write to the study, be it the journal in a
folder that somebody sent, could have put any other pickle there.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from typing import Any

from optuna.samplers import CmaEsSampler
from optuna.trial import FrozenTrial

from runner.errors import RunError
from runner.internals.cma_state import CLASSES


class CmaEs(CmaEsSampler):
    """CMA-ES (Hansen 2016) of which a study can hold no code."""

    def _restore_optimizer(self, completed_trials: Sequence[FrozenTrial]) -> Any:
        for trial in reversed(completed_trials):
            kept = {key: text for key, text in trial.system_attrs.items() if key.startswith(self._attr_key_optimizer)}
            if kept:
                return restore(self._concat_optimizer_attrs(kept))
        return None


def restore(text: str) -> Any:
    """The optimizer whose pickle is ``text`` in hexadecimal digits.

    Raises:
        RunError: it holds something else than an optimizer of ``cmaes`` and numbers.
    """
    try:
        return _Reader(io.BytesIO(bytes.fromhex(text))).load()
    except Exception as error:  # a pickle that was not written by pickle can raise anything
        reason = " ".join(str(error).split())
        raise RunError(f"the study holds something other than the state of CMA-ES ({reason})") from error


class _Reader(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) not in CLASSES:
            raise pickle.UnpicklingError(f"{module_name}.{global_name} is no part of it")
        return super().find_class(module_name, global_name)
