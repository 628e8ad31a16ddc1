"""The numbers inside of dp-accounting's privacy loss distributions, which has no way to hand them out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def directions(distribution: Any) -> tuple[Any, Any]:
    """The mass functions of a ``PrivacyLossDistribution``: an example removed, and one added.

    They are one object where both are alike.
    """
    return distribution._pmf_remove, distribution._pmf_add


def masses(pmf: Any) -> tuple[NDArray[np.float64], int, float]:
    """Of one direction: the probabilities, the number of the first loss on the grid, and the mass at infinity."""
    dense = pmf.to_dense_pmf()
    return dense._probs, int(dense._lower_loss), float(dense._infinity_mass)
