"""The time that a private run spends on its account: epsilon at each epoch's end, a ledger line an evaluation.

Both are done here as the run does them, for the run's own mechanism; the line goes to a ledger of its own that is
thrown away, so a plan leaves nothing in the user's.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.data.cache.folder_cache import scratch_folder
from runner.errors import RequestError
from runner.execution.ledger_entry import planned_run
from runner.privacy.ledger.chain import BrokenChain
from runner.privacy.ledger.ledger import Ledger, contents_of, find_ledgers, ledger_folder
from runner.training.privacy_account import open_account

if TYPE_CHECKING:
    from runner.planning.plan import Plan

_ROUNDS = 3


@dataclass(frozen=True, kw_only=True)
class PrivacyCosts:
    """Seconds of what the first process of a private run writes down."""

    set_up: float
    """Once: preparing the bound for progress lines."""
    epoch: float
    """Epsilon after an epoch."""
    final: float
    """Epsilon of the whole run, for its record."""
    line: float
    """One line in the ledger, which is verified before it; 0 where validation data are public."""

    def seconds(self, *, epochs: int, evaluations: int) -> float:
        """Of a run of ``epochs``, of which the last has the figure that is known from the start."""
        between = self.set_up + (epochs - 1) * self.epoch if epochs > 1 else 0.0
        return between + evaluations * self.line + self.final


def time_privacy_costs(plan: Plan, *, ledger_dir: str | None, cache_dir: str | None) -> PrivacyCosts | None:
    """Time the books of ``plan``; None for an ordinary run.

    Raises:
        RequestError: the user's ledger of these data is broken or cannot be read.
    """
    spending = open_account(plan)
    if spending is None:
        return None
    steps = plan.semantic.steps
    first = _seconds(lambda: spending.epsilon_after(max(1, steps // 3)))
    epoch = _seconds(lambda: spending.epsilon_after(max(1, steps // 2)))
    return PrivacyCosts(
        set_up=max(0.0, first - epoch),
        epoch=epoch,
        final=_seconds(lambda: spending.reported_after(steps)),
        line=_line(plan, ledger_dir=ledger_dir, cache_dir=cache_dir),
    )


def _line(plan: Plan, *, ledger_dir: str | None, cache_dir: str | None) -> float:
    run = planned_run(plan, folder=plan.name, sweep=None)
    if run.validation != "private":
        return 0.0
    contents, folder = contents_of(plan.semantic.data.ledger_name), ledger_folder(ledger_dir)
    try:
        # a run verifies all lines there are before each of its own
        verifying = sum(_seconds(ledger.verify) for ledger in find_ledgers(folder) if ledger.contents == contents)
    except (BrokenChain, OSError) as error:
        raise RequestError(
            "privacy.ledger_dir", f"{folder} ({error})", "a folder whose ledger can be verified"
        ) from error
    with scratch_folder(cache_dir) as scratch:
        session = Ledger(scratch, contents, anchored=False).begin(run)
        return verifying + statistics.median(_seconds(session.evaluate) for _ in range(_ROUNDS))


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
