"""Other images than a run's own, in the form of its data."""

from __future__ import annotations

from runner.data.images import ImageData, ImageSet, SkippedFile
from runner.planning.plan import Plan


def planned_images(plan: Plan, name: str, images: ImageSet, skipped: tuple[SkippedFile, ...] = ()) -> ImageData:
    """A data set called ``name`` of ``images`` alone, with the classes, size, channels and constants of ``plan``."""
    data = plan.semantic.data
    return ImageData(
        name=name,
        classes=plan.classes,
        train=images,
        val=None,
        test=None,
        mean=data.mean,
        std=data.std,
        channels=data.channels,
        image_size=data.image_size,
        fingerprint="",
        origin="",
        skipped=skipped,
    )
