"""Opacus's accountant of Gopi et al. 2021 (arXiv:2106.02848), with lengths that a Fourier transform is fast for."""

from __future__ import annotations

from typing import Any

from opacus.accountants import PRVAccountant
from opacus.accountants.analysis.prv import Domain
from scipy.fft import next_fast_len

from runner.privacy.accounting.tilted_losses import rounding_of_sums


class FastLengths(PRVAccountant):  # type: ignore[misc]
    """Its range of losses has some points more, so that the length of a Fourier transform is 2^a 3^b 5^c.

    A transform of another length takes up to ten times as long.  A wider range cuts off less.

    What transforms err by is taken out of delta, as the library does with its other errors.
    """

    def get_epsilon(self, delta: float, *, eps_error: float, **given: Any) -> float:
        """See Opacus; ``eps_error`` is the largest error in epsilon."""
        losses = self._get_dprv(eps_error=eps_error, delta_error=delta / 1000)
        rounding = rounding_of_sums(losses.pmf, sum(count for _, _, count in self.history))
        if rounding > delta / 2:
            raise ArithmeticError("rounding")
        return float(losses.compute_epsilon(delta, max(delta / 1000, rounding), eps_error)[2])

    def _get_domain(self, **given: Any) -> Any:
        domain = super()._get_domain(**given)
        more = next_fast_len(domain.size // 2, real=True) - domain.size // 2
        return Domain(domain.t_min - more * domain.dt, domain.t_max + more * domain.dt, domain.size + 2 * more)
