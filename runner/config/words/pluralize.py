"""Numbers with their nouns: ``1 run``, ``2 runs``."""

from __future__ import annotations


def pluralize(number: float, noun: str) -> str:
    """``1 run``, ``2,000 runs``, ``2.5 epochs``, ``3 processes``."""
    figure = f"{number:,}" if isinstance(number, int) else f"{number:.4g}"
    return f"{figure} {noun}" if number == 1 else f"{figure} {noun}{'es' if noun.endswith('s') else 's'}"
