"""Models in which the examples of a batch meet, each in a way of its own, and how far one example moves the others.

A model is a middle layer, rows [b, WIDTH] to [b, WIDTH], between two linear ones on 8-pixel images.
"""

import contextlib
import itertools

import torch
import torch.nn.functional as F
from torch import nn

from runner.privacy.example_gradients.grad_sample import per_example_gradients

WIDTH, CLASSES, SHAPE = 16, 5, (1, 8, 8)


class Middle(nn.Module):
    """The identity; what is mixed in is a subclass's affair."""

    def forward(self, rows):
        return rows


class CentreInTraining(Middle):
    def forward(self, rows):
        return rows - rows.mean(0) if self.training else rows


class Mixup(Middle):
    def forward(self, rows):
        return 0.7 * rows + 0.3 * rows.flip(0) if self.training else rows


class CentreFromThree(Middle):
    def forward(self, rows):
        return rows - rows.mean(0) if len(rows) >= 3 else rows


class CentreAfterSomeCalls(Middle):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, rows):
        self.calls += 1
        return rows - rows.mean(0) if self.calls > 30 else rows


class BranchOnMaximum(Middle):
    def forward(self, rows):
        return rows - rows.mean(0) if rows.max() > 40 else rows


class MemoryBank(Middle):
    def __init__(self):
        super().__init__()
        self.bank = []

    def forward(self, rows):
        mixed = rows + 2 * torch.stack(self.bank).mean(0) if self.training and self.bank else rows
        if self.training:
            self.bank = [rows.detach().mean(0), *self.bank[:3]]
        return mixed


class RunningMean(Middle):
    def __init__(self, *, persistent=True):
        super().__init__()
        self.register_buffer("average", torch.zeros(WIDTH), persistent=persistent)

    def forward(self, rows):
        if self.training:
            with torch.no_grad():
                self.average.mul_(0.5).add_(rows.mean(0), alpha=0.5)
        return rows - self.average


class RunningMeanInAttribute(Middle):
    average = 0.0

    def forward(self, rows):
        if self.training:
            self.average = 0.5 * self.average + 0.5 * rows.detach().mean(0)
        return rows - self.average


class AddsTheSum(Middle):
    def forward(self, rows):
        return rows + 0.0015 * rows.sum(0) if self.training else rows


class Attention(Middle):
    def forward(self, rows):
        return rows + (rows @ rows.t() / 4).softmax(1) @ rows


class Rolled(Middle):
    def forward(self, rows):
        return torch.roll(rows, 1, 0)


class RankedByNorm(Middle):
    def forward(self, rows):
        rank = rows.norm(dim=1).argsort().argsort()
        return rows * (1 - 2 * rank[:, None] / len(rows))


class OverTheSize(Middle):
    def forward(self, rows):
        return rows / len(rows)


class ByParityOfTheSize(Middle):
    def forward(self, rows):
        return rows if len(rows) % 2 else -rows


class FirstBatchKept(Middle):
    def __init__(self):
        super().__init__()
        self.first = None

    def forward(self, rows):
        if self.first is None:
            self.first = rows.detach().mean(0)
        return rows - self.first


class CumulativeSum(Middle):
    def forward(self, rows):
        return rows.cumsum(0)


class WhereBright(Middle):
    """No branch in Python: the tensors decide, and only for images brighter than most."""

    def forward(self, rows):
        return torch.where(rows.amax() > 40, rows - rows.mean(0), rows)


class EveryFifthCall(Middle):
    """The counter is no attribute of the module, but of an iterator that a closure holds."""

    def __init__(self):
        super().__init__()
        calls = itertools.count(1)

        def centre(rows):
            return rows - rows.mean(0) if next(calls) % 5 == 0 else rows

        self.centre = centre

    def forward(self, rows):
        return self.centre(rows)


class EvenPlaces(Middle):
    def forward(self, rows):
        return rows * (1 + torch.arange(len(rows)) % 2)[:, None]


class FifthPlace(Middle):
    def forward(self, rows):
        return torch.cat((rows[:4], -rows[4:5], rows[5:]))


class FirstPlace(Middle):
    def forward(self, rows):
        return torch.cat((-rows[:1], rows[1:]))


class FunctionalBatchNorm(Middle):
    def forward(self, rows):
        return F.batch_norm(rows, None, None, training=True) if self.training and len(rows) > 1 else rows


class WithoutGradient(Middle):
    def forward(self, rows):
        return rows - rows.mean(0).detach()


class _CentredBackwards(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows):
        return rows.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient - 3 * gradient.mean(0)


class MixesBackwards(Middle):
    """The forward pass shows nothing."""

    def forward(self, rows):
        return _CentredBackwards.apply(rows)


class _SeesTheBatch(torch.autograd.Function):
    """An operation with a vectorised form of its own, which is given all examples at once."""

    @staticmethod
    def forward(rows):
        return rows.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, gradient):
        return gradient

    @staticmethod
    def vmap(info, in_dims, rows):
        return rows - rows.mean(0, keepdim=True), 0


class MeetsUnderVmap(Middle):
    def forward(self, rows):
        return _SeesTheBatch.apply(rows)


class Hidden(Middle):
    """A normalisation that is not among the modules of the model."""

    def __init__(self):
        super().__init__()
        self.inside = [nn.BatchNorm1d(WIDTH, affine=False)]

    def forward(self, rows):
        return self.inside[0](rows) if len(rows) > 1 else rows


class OnTheClass(Middle):
    calls = itertools.count()

    def forward(self, rows):
        return rows - rows.mean(0) if next(self.calls) > 60 else rows


SEEN = [0]


class InAGlobal(Middle):
    def forward(self, rows):
        SEEN[0] += 1
        return rows * (1 + 0.1 * (SEEN[0] % 7))


class WritesWeights(Middle):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(WIDTH), requires_grad=False)

    def forward(self, rows):
        self.scale.data.mul_(0.9).add_(0.1 * rows.detach().abs().mean(0))
        return rows * self.scale


class OrdinaryOnly(Middle):
    """Mixes in ordinary examples alone and no numbers that are not finite, so that no crude companion shows."""

    def forward(self, rows):
        ordinary = (rows.abs().amax(1, keepdim=True) < 5) & (rows.abs().amax(1, keepdim=True) > 0.3)
        return rows + 0.5 * torch.where(ordinary, rows, 0.0).sum(0)


class Neighbours(Middle):
    """Each pair by itself: the rest of the batch is never seen."""

    def forward(self, rows):
        pairs = rows[: len(rows) // 2 * 2].unflatten(0, (-1, 2))
        return torch.cat(((pairs + pairs.flip(1)).flatten(0, 1), rows[len(rows) // 2 * 2 :]))


MIXING = {kind.__name__: kind for kind in Middle.__subclasses__()}
STATEFUL = {
    *("CentreAfterSomeCalls", "MemoryBank", "RunningMean", "RunningMeanInAttribute", "FirstBatchKept"),
    *("EveryFifthCall", "Hidden", "OnTheClass", "InAGlobal", "WritesWeights"),
}
"""Those that carry something from one forward pass to the next: refused in every way."""

NOT_VECTORISED = {"BranchOnMaximum", "MixesBackwards", "MeetsUnderVmap"}
"""Those that ``functional`` cannot take; in the last one examples meet because it has a vectorised form of its own."""


def model_with(middle):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, WIDTH), middle, nn.Tanh(), nn.Linear(WIDTH, CLASSES))
    with torch.no_grad():
        model[1].weight.mul_(2.0)
    return model


def examples(size, loud, times):
    """Images that have much in common, as photos have, one of them far outside of the others; and labels."""
    generator = torch.Generator().manual_seed(3)
    common = torch.randn(1, *SHAPE, generator=generator)
    images = common + torch.randn(size, *SHAPE, generator=generator)
    images[loud] *= times
    return images, torch.arange(size) % 2


def moved(make, way, *, size=24, history=0):
    """How far the clipped sum of one step moves when an example leaves it, over C; 1 is the bound.

    The largest over the first, middle and last place.  ``history`` steps of the same examples come before; ``make()``
    is called for each run.
    """

    def clipped_sum(images, labels):
        model = make().train()
        found = per_example_gradients(way, model, loss=loss, forward=contextlib.nullcontext)
        for _ in range(history + 1):
            gradients = found(images, labels).gradients
        norms = torch.linalg.vector_norm(torch.stack([each.norms() for each in gradients]), dim=0)
        return torch.cat([each.weighted_sum(1 / norms, None).flatten() for each in gradients])

    def apart(out, times):
        images, labels = examples(size, out, times)
        rest = torch.arange(size) != out
        return float((clipped_sum(images, labels) - clipped_sum(images[rest], labels[rest])).norm())

    return max(apart(out, times) for out in (0, size // 2, size - 1) for times in (1, 20))


def loss(logits, labels):
    return F.cross_entropy(logits, labels, reduction="none")


def passes_the_former_check(model, way):
    """The check as it was until issue 15: two images, modules without parameters in evaluation mode, one per cent."""
    generator = torch.Generator().manual_seed(20_260)
    images = torch.randn(3, *SHAPE, generator=generator)
    images[2] *= 3.0
    labels = torch.zeros(2, dtype=torch.int64)
    model.train()
    for module in model.modules():
        if next(module.parameters(), None) is None:
            module.training = False
    found = per_example_gradients(way, model, loss=loss, forward=contextlib.nullcontext)

    def differ(one, other):
        return bool((one - other).norm() > 1e-2 * max(float(one.norm()), float(other.norm())))

    def gradient(batch):
        only_first = torch.tensor([1.0, 0.0])
        return torch.cat([each.weighted_sum(only_first, None).flatten() for each in found(batch, labels).gradients])

    with torch.no_grad():
        logits = [model(images[pair])[0] for pair in ([0, 1], [0, 2])]
    alone, among = gradient(images[[0, 1]]), gradient(images[[0, 2]])
    if differ(*logits) or differ(alone, among):
        return False
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    plain = torch.autograd.grad(loss(model(images[:1]), labels[:1]).sum(), parameters)
    return not differ(alone, torch.cat([each.flatten() for each in plain]))


class PlaceInSixteenBits(Middle):
    """By place, and in 16 bits alone: no comparison in float32 shows it, and rounding hides it in 16 bits."""

    def forward(self, rows):
        return rows * (1 + torch.arange(len(rows)))[:, None] if rows.dtype == torch.bfloat16 else rows


class SizeUnderAutocast(Middle):
    def forward(self, rows):
        return rows / len(rows) if torch.is_autocast_enabled("cpu") else rows


class OtherTableUnderAutocast(Middle):
    """The same operations, of another tensor."""

    def __init__(self):
        super().__init__()
        self.tables = torch.ones(64, 1), torch.arange(64.0)[:, None]

    def forward(self, rows):
        return rows * self.tables[torch.is_autocast_enabled("cpu")][: len(rows)]


class _PlaceBackwards(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows):
        return rows.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * (torch.arange(len(gradient))[:, None] if gradient.dtype == torch.bfloat16 else 1)


class PlaceBackwardsInSixteenBits(Middle):
    def forward(self, rows):
        return _PlaceBackwards.apply(rows)


class OtherKernelInSixteenBits(Middle):
    """By size, in an argument that is no tensor."""

    def forward(self, rows):
        return rows.mul(1.0 if rows.dtype == torch.float32 else 1.0 / len(rows))


IN_SIXTEEN_BITS = (
    PlaceInSixteenBits, SizeUnderAutocast, OtherTableUnderAutocast, PlaceBackwardsInSixteenBits,
    OtherKernelInSixteenBits,
)  # fmt: skip
