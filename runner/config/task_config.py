"""The keys of ``task``: what is learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass
class TaskConfig:
    """What is learned: what a label is, the loss of each example, and when an answer is right."""

    target: str = "runner.tasks.classify.Classify"
    """Import path of the task class (``_target_`` in YAML)."""
    name: str = "classify"
    """Name in records."""
    loss: str = "cross_entropy"
    """Loss of an example: ``cross_entropy``, ``focal`` (Lin et al. 2017), or the import path of a function of yours
    from logits [b, K] and labels [b] to losses [b].  Evaluations report cross-entropy whatever it is."""
    focal_gamma: float = 2.0
    """focal: the exponent by which examples that are right already count less; 0 is cross-entropy."""
    class_weights: Any = None
    """Factor of the loss of each class's examples, in the order of the classes; ``balanced`` takes n / (K n_k) for the
    n_k of n training examples in class k of K, whose mean over them is 1.  Null for 1.  An update divides by the number
    of its examples, never by their weights."""
