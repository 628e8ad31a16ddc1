"""The difference of two recipes over images: what of it would hold for other images than those that were tested.

Runs and images are crossed: each of n runs of either recipe answers the same N images.  With d the difference of right
answers, of pair s on image i, the mean over both has the variance V_s + V_i - V_e: that of the means over images, by
runs; that of the means over runs, by images; and what is left of d after both, which the two have counted twice
(Searle, Casella and McCulloch 1992, Variance Components, section 4.3).  So radiologists compare readers over cases
(Gallas 2006, Acad. Radiol. 13, 353), and psychologists subjects over words (Clark 1973, J. Verb. Learn. Verb. Behav.
12, 335).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from runner.report.statistics import Estimate, Floats, paired


@dataclass(frozen=True, kw_only=True)
class ImageDifference:
    """The difference of two recipes in accuracy, one minus the other; arrays of one shape."""

    models: Estimate
    """By the variance over images alone: for new images, answered by these models."""
    runs: Estimate
    """By the variance over runs alone: for new runs on these images; its error is NaN for one pair."""
    rest: Floats
    """V_e, which both of them contain; NaN for one pair."""

    def both(self, confidence: float) -> tuple[Floats, Floats]:
        """Ends of the interval for new runs on new images; NaN for one pair.

        The squares of the two half widths are added (Howe 1974, J. Amer. Statist. Assoc. 69, 789), and what V_e makes
        of that over images is taken away once; it is never narrower than either.
        """
        mean, images = self.models.mean, self.models.interval(confidence)[1] - self.models.mean
        runs = self.runs.interval(confidence)[1] - mean
        share = np.maximum(1 - self.rest / self.models.error**2, 0)
        half = np.maximum(np.hypot(runs, images * np.sqrt(share)), images)
        return mean - half, mean + half


def over_images(right: ArrayLike, reference: ArrayLike, *, scale: float = 1.0) -> ImageDifference:
    """The difference in accuracy of answers to single images.

    Few images that the models answer differently give too small a variance over images.  So two images are added to it,
    on one of which the recipes differ, half each way (Agresti and Min 2005, Statist. Med. 24, 729).

    Args:
        right: [..., n, N], whether run s of the recipe answered image i rightly, or the share of several runs that did.
        reference: likewise of the reference, run by run its partner.
        scale: factor of the figures, 100 for points.
    """
    one, other = scale * np.asarray(right, float), scale * np.asarray(reference, float)
    d = one - other
    n, count = d.shape[-2:]
    of_image, of_run = d.mean(axis=-2), d.mean(axis=-1)
    mean, more = of_run.mean(axis=-1), count + 2
    by_images = ((of_image**2).sum(axis=-1) + scale**2 - of_image.sum(axis=-1) ** 2 / more) / more**2
    left = d - of_image[..., None, :] - of_run[..., None] + mean[..., None, None]
    degrees = (n - 1) * (count - 1)
    return ImageDifference(
        models=Estimate(
            mean=mean,
            error=np.sqrt(by_images),
            degrees=np.full_like(mean, count - 1.0),
            runs=np.full_like(mean, float(count)),
        ),
        runs=paired(one.mean(axis=-1), other.mean(axis=-1), resolution=scale / count),
        rest=(left**2).sum(axis=(-2, -1)) / (degrees * n * count) if degrees else np.full_like(mean, np.nan),
    )


def mcnemar(only_one: ArrayLike, only_other: ArrayLike) -> Floats:
    """Two-sided p-value of "two models are right equally often", from the images that only one answered rightly.

    McNemar 1947, Psychometrika 12, 153; exact, by the binomial distribution.
    """
    b, c = np.asarray(only_one, float), np.asarray(only_other, float)
    return np.asarray(np.minimum(2 * special.bdtr(np.minimum(b, c), (b + c).astype(int), 0.5), 1.0))
