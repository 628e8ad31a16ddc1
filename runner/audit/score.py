"""The attacker of the canary audit: scores how much of each canary is in the released gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from runner.training.gradients.mean_rule import GradientRule
from runner.training.parts import Parts
from runner.training.running_metrics import Answers


class Attacker:
    """A gradient rule that hands everything on to the real one and looks at what comes out of it.

    The score of canary i is the sum over steps of <released gradient, gradient of canary i at the weights of that
    step>: the white-box attack of Steinke, Nasr and Jagielski 2023 (arXiv 2305.08846).  All products of a step come
    from one double backward pass, without forming the gradient of any canary.
    """

    def __init__(
        self, parts: Parts, *, images: Tensor, labels: Tensor, loss: Callable[[Tensor, Tensor], Tensor]
    ) -> None:
        """``images`` [m, C, H, W] and ``labels`` [m] are all canaries.

        The first parameter of the model must be a weight [hidden, C H W] on the flattened image.
        """
        self._rule: GradientRule = parts.rule
        self._model = parts.model
        self._parameters = parts.parameters
        self._images = images
        self._labels = labels
        self._loss = loss
        self.scores = torch.zeros(len(labels), dtype=torch.float64, device=labels.device)
        """[m], summed over the steps so far."""
        self.contributions = torch.zeros_like(self.scores)
        """[m]: the released gradient along the direction of each canary's own weights, summed over the steps."""

    @property
    def zeroed(self) -> Tensor | None:
        """Hands on."""
        return self._rule.zeroed

    def begin(self, denominator: float) -> None:
        """Starts a logical batch."""
        self._rule.begin(denominator)

    def add(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Answers]:
        """Hands a micro-batch on."""
        return self._rule.add(images, labels)

    def share(self, flags: Sequence[bool]) -> list[bool]:
        """Hands the question on."""
        return self._rule.share(flags)

    def release(self, step: int) -> Tensor | None:
        """Releases by the real rule, then looks at what every ``p.grad`` holds."""
        norm = self._rule.release(step)
        released = [torch.zeros_like(p) if p.grad is None else p.grad for p in self._parameters]
        products, own = self._look(released)
        self.scores += products.double()
        self.contributions += own.double()
        return norm

    def _look(self, direction: list[Tensor]) -> tuple[Tensor, Tensor]:
        """<direction, gradient of canary i>, and the share of it along canary i's own weights: float [m] each.

        With v a weight for each loss, the gradient of sum_i v_i loss_i is linear in v, and the derivative of its
        product with the direction by v is what is wanted.  Column i of the first weight's gradient is canary i's alone.
        """
        weights = torch.ones(len(self._labels), device=self._labels.device, dtype=direction[0].dtype)
        weights.requires_grad_()
        with torch.enable_grad():
            total = torch.dot(weights, self._loss(self._model(self._images), self._labels))
            gradients = torch.autograd.grad(total, self._parameters, create_graph=True)
            product = torch.stack([(g * d).sum() for g, d in zip(gradients, direction, strict=True)]).sum()
            (products,) = torch.autograd.grad(product, weights)
        columns = torch.nn.functional.normalize(gradients[0].detach()[:, : len(weights)], dim=0)
        return products, (columns * direction[0][:, : len(weights)]).sum(0)
