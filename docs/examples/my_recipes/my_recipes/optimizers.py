"""Optimizers."""

from collections.abc import Callable, Iterable
from typing import Any

import torch


class SignMomentum(torch.optim.Optimizer):
    """Steps of equal length along the sign of an average of the gradients (signSGD with momentum)."""

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-3, weight_decay: float = 0.0, momentum: float = 0.9
    ) -> None:
        """Args as in PyTorch; ``momentum`` is the share of the average that stays at each update."""
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:
        """Make one update."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                average = self.state[weight].setdefault("average", torch.zeros_like(weight))
                average.lerp_(weight.grad, 1 - group["momentum"])
                weight.mul_(1 - group["lr"] * group["weight_decay"]).sub_(average.sign(), alpha=group["lr"])
