"""Classes of the test images, and whether a model answers all of them with one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from runner.records.predictions import Predictions


@dataclass(frozen=True)
class ClassBalance:
    """Shares in [0, 1]; None where there is no test split."""

    majority: float | None = None
    """Of the test images, those of the largest class: the accuracy of a model that always answers with it."""
    most_predicted: float | None = None
    """Of the answers, those that name the class that is named most; 1 for a model that has nothing else to say."""

    @classmethod
    def of(cls, predictions: Predictions) -> ClassBalance:
        """From the answers to the test images."""
        labels, answers = (
            np.unique(classes, return_counts=True)[1].max() / len(classes)
            for classes in (predictions.labels, predictions.answers)
        )
        return cls(majority=float(labels), most_predicted=float(answers))

    def metrics(self) -> dict[str, float | None]:
        """Both, by their names among the final metrics."""
        return {"test_majority": self.majority, "test_most_predicted": self.most_predicted}

    def notes(self) -> list[str]:
        """What a person must know, in one line; empty where the answers differ."""
        if self.most_predicted != 1.0 or self.majority == 1.0:
            return []
        return [
            f"every test image got the same answer; the largest class is {self.majority:.2%} of them, which is the"
            " accuracy of always naming it"
        ]
