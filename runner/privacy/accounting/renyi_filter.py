"""A Renyi filter (Feldman and Zrnic 2021): the account of mechanisms that depend on earlier results.

Composition adds up what fixed mechanisms cost.  Where a search picks the next batch size, noise or length by the
results so far, the sum of what was picked is itself an outcome, and the figure for it is no bound.  What holds
("Individual Privacy Accounting via a Renyi Filter", NeurIPS 2021, fully adaptive composition): if at one order that was
fixed beforehand the divergences of all that is run never pass a budget that was fixed beforehand, the budget bounds the
whole, whatever was picked and whenever it ended.  So it is the budget that is claimed, and not what was used of it; and
the order is one, for the best of several orders afterwards would be picked by the outcome as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Self

from runner.privacy.accounting import accountants
from runner.privacy.accounting.composition import Composed, Spent

KIND = "filter"
"""Kind of the line in the ledger that says what was fixed."""

ACCOUNTANT = "rdp filter"
"""As which it is reported."""

_ORDERS = (*range(2, 65), 128, 256, 512, 1024)


@dataclass(frozen=True, kw_only=True)
class Filter:
    """A budget that was fixed before the first mechanism."""

    epsilon: float
    delta: float
    order: int
    """The Renyi order at which divergences add up."""

    @classmethod
    def before(cls, first: Spent, *, epsilon: float, delta: float) -> Self:
        """The filter of a budget, at the order at which most runs like the ``first`` fit; before that has begun."""
        one = {order: cls(epsilon=epsilon, delta=delta, order=order) for order in _ORDERS}
        return max(one.values(), key=lambda budget: budget._room / budget._divergence(first))

    @property
    def claim(self) -> Composed:
        """What holds for all that the filter lets through."""
        return Composed(epsilon=self.epsilon, delta=self.delta, accountant=ACCOUNTANT)

    def spent(self, runs: Iterable[Spent]) -> float:
        """The epsilon of ``runs`` at the filter's order and delta: they may run if it is not above the budget."""
        mechanisms = [(run.sample_rate, run.noise_multiplier, run.steps) for run in runs if run.steps]
        if any(noise == 0.0 for _, noise, _ in mechanisms):
            return math.inf
        return accountants.rdp_at(self.order, mechanisms, self.delta) if mechanisms else 0.0

    def line(self, sweep: str) -> dict[str, Any]:
        """The ledger's line."""
        return {"kind": KIND, "sweep": sweep, **asdict(self)}

    @property
    def _room(self) -> float:
        """The divergence that the budget leaves at its order (Canonne, Kamath and Steinke 2020, proposition 12)."""
        order = self.order
        return self.epsilon - math.log1p(-1 / order) + math.log(self.delta * order) / (order - 1)

    def _divergence(self, run: Spent) -> float:
        return accountants.divergence_at(self.order, run.sample_rate, run.noise_multiplier)
