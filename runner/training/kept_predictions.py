"""What a run answered to its validation and test images, put together for ``predictions.safetensors``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from runner.records.predictions import Predictions, images_digest

if TYPE_CHECKING:
    from runner.data.images import ImageData
    from runner.planning.plan import Plan


class KeptPredictions:
    """The answers behind the figures of ``run.json``: of the evaluation by which weights were chosen, and of the test.

    A private run keeps none on validation images that are not public: they have no protection.
    """

    def __init__(self, plan: Plan, data: ImageData, device: torch.device) -> None:
        privacy = plan.semantic.privacy
        public = privacy is None or privacy.validation == "public"
        self._images = {"val": data.val if public else None, "test": data.test}
        self._origin, self._device = data.origin, device
        self._classes: dict[str, torch.Tensor] = {}

    def room(self, split: str) -> torch.Tensor | None:
        """Zeros [2, n] for ``evaluate``: labels and answers on ``split``; None where they are not kept."""
        images = self._images[split]
        return None if images is None else torch.zeros(2, len(images), dtype=torch.int32, device=self._device)

    def keep(self, split: str, classes: torch.Tensor | None) -> None:
        """Keep the labels and answers of an evaluation, in place of those of an earlier one."""
        if classes is not None:
            self._classes[split] = classes

    def state(self) -> torch.Tensor | None:
        """What a checkpoint has to hold: those on the validation split."""
        found = self._classes.get("val")
        return None if found is None else found.cpu()

    def load_state(self, saved: torch.Tensor | None) -> None:
        """Go on with what ``state`` gave; None, also from checkpoints of earlier versions, for nothing."""
        self.keep("val", saved)

    def predictions(self) -> dict[str, Predictions]:
        """Those that are kept, by split."""
        found = {}
        for split, classes in self._classes.items():
            images = self._images[split]
            if images is not None and len(images) == classes.shape[1]:
                labels, answers = classes.cpu().numpy()
                digest = images_digest(self._origin, images.rows, images.labels)
                found[split] = Predictions(labels=labels, answers=answers, images=digest)
        return found
