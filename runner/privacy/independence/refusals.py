"""Errors for models that are refused under DP although they have per-example gradients."""

from __future__ import annotations

from runner.errors import RequestError


class ExamplesMixed(RequestError):
    """In this model, taken in batches, what one example adds depends on the others."""


class NoUsableGradSample(RequestError):
    """What the forward pass leaves behind or draws reaches other examples however gradients are computed."""
