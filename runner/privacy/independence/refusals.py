"""Why a model is refused under DP, where it is not for want of gradients per example."""

from __future__ import annotations

from runner.errors import RequestError


class ExamplesMixed(RequestError):
    """In this model, taken in batches, what one example adds depends on the others."""


class NoUsableGradSample(RequestError):
    """What the forward pass leaves behind or draws reaches other examples however gradients are computed."""
