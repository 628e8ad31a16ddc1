"""Recipes whose models answer every test image alike: their figures are about the images, not about the recipes."""

from __future__ import annotations

from runner.config.words.pluralize import pluralize
from runner.report.question import Question
from runner.report.recipes import Grouping


def describe_constant(grouping: Grouping, question: Question) -> list[str]:
    """A sentence on the recipes of which some runs answer every image with one class; empty where none does."""
    if not question.metric.name.startswith("test"):
        return []
    found, shares = [], []
    for recipe in grouping.recipes:
        metrics = [cell.record.metrics for cell in recipe.finished if cell.record is not None]
        alike = [one for one in metrics if one.test_most_predicted == 1.0 and one.test_majority != 1.0]
        if alike:
            found.append(f"{recipe.label} in {len(alike)} of {pluralize(len(metrics), 'run')}")
            shares += [one.test_majority for one in alike if one.test_majority is not None]
    if not found:
        return []
    majority = f" The largest class is {max(shares):.2%} of the test images." if shares else ""
    return [f"Every test image got the same answer from {', '.join(found)}: nothing was learnt there.{majority}"]
