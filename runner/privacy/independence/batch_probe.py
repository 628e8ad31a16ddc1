"""Made-up batches that a model is tried on before a private run starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from runner.error_texts import reads_numbers
from runner.errors import RequestError
from runner.privacy.example_gradients.grad_sample import per_example_gradients
from runner.privacy.example_gradients.out_of_place import out_of_place
from runner.privacy.example_gradients.per_example import Forward, PerExample, PerExampleGradients, trainable
from runner.privacy.independence.batch_mixing import (
    KINDS,
    Batch,
    allowed,
    contribution,
    mixing_difference,
    mixing_layer,
    moved_by_rounding,
)
from runner.privacy.independence.refusals import ExamplesMixed
from runner.privacy.independence.same_operations import other_operation
from runner.privacy.mechanism.random_layers import LayerKeys

_SEED = 20_260
_FEWEST = 4
"""Examples of the largest batch that is tried, at least."""
_WORK = 3e8
"""Multiplications of a forward pass of the largest batch, at most, where it has more than ``_FEWEST``."""
_WRITTEN = 64
"""Multiplications that take as long as writing a number: a rough figure."""
_NUMBERS = 1 << 26
"""Numbers that the gradients of the largest batch may hold where they are held one by one."""
_TRIES = 3
"""A rounding that turns a rectifier on or off moves a gradient further, now and then; what depends on the size of the
batch or on the place in it does so at each try."""
_WRONG = 1e-2
"""Relative error of a gradient that no rounding explains: float32 kernels of torch round by up to 7e-4 in the backward
pass of a group normalisation."""


class BatchProbe:
    """Random images for one model in training mode, and what is compared on them."""

    def __init__(
        self,
        model: nn.Module,
        grad_sample: str,
        *,
        image_shape: tuple[int, int, int],
        copies: int,
        forward: Forward,
    ) -> None:
        """``grad_sample`` is the way to its gradients, ``forward`` the context of a forward pass by itself."""
        self._model = model
        self._way = grad_sample
        self._shape = image_shape
        self._copies = copies
        self.forward = forward
        self._parameters = list(trainable(model).values())
        self.device, self._dtype = self._parameters[0].device, self._parameters[0].dtype
        self._generator = torch.Generator().manual_seed(_SEED)
        self._draws = LayerKeys.of(model) is not None
        self._classes = 1
        self._work = 0.0

    @staticmethod
    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy [b]."""
        # not F.cross_entropy, which torch.func takes apart in Python, and slowly
        return -logits.log_softmax(1).gather(1, labels[:, None]).squeeze(1)

    def batch(self, size: int) -> Batch:
        """``size`` examples that have not been there before."""
        images = size * self._copies
        drawn = torch.randn(images, *self._shape, generator=self._generator)
        labels = torch.randint(0, self._classes, (size,), generator=self._generator)
        keys = torch.randint(-(1 << 62), 1 << 62, (images,), generator=self._generator) if self._draws else None
        return Batch(
            drawn.to(self.device, self._dtype),
            labels.to(self.device),
            None if keys is None else keys.to(self.device),
        )

    def check(self, model: nn.Module) -> None:
        """A forward pass of ``model``, the probe's or one like it, that counts classes and work."""
        batch = self.batch(2)
        counting = _Work()
        with torch.no_grad(), batch.drawn_in(model), self.forward(), counting:
            self._classes = model(batch.images).shape[-1]
        self._work = counting.work / 2

    def largest(self, batch_size: int) -> int:
        """Examples of the largest batch that is tried, of the ``batch_size`` that the run has."""
        most = int(_WORK / max(self._work, 1.0))
        if self._way == "hooks":
            most = min(most, _NUMBERS // sum(parameter.numel() for parameter in self._parameters))
        return max(_FEWEST, min(batch_size, most))

    def refuse_reading(self) -> None:
        """Refuse a forward pass that decides by numbers it reads out of the batch: other examples made them as well.

        Raises:
            ExamplesMixed: ``vmap``, for which such numbers do not exist, cannot run it for that reason.
        """
        batch, keys = self.batch(2), LayerKeys.of(self._model)

        def one(images: Tensor, *own: Tensor) -> Any:
            drawing = nullcontext() if keys is None else keys.during(*own)
            with drawing, self.forward(), out_of_place():
                return self._model(images)

        split = [each.unflatten(0, (2, -1)) for each in (batch.images, batch.keys) if each is not None]
        try:
            with torch.no_grad():
                torch.func.vmap(one)(*split)
        except RuntimeError as failure:
            if reads_numbers(failure):
                raise self._meet(f"{type(self._model).__name__}, which reads numbers out of the batch") from failure

    def compare(self, gradients: PerExampleGradients, size: int, *, full_precision: bool) -> None:
        """The same examples among others, among fewer and alone; ``gradients`` are those of the run.

        Raises:
            ExamplesMixed: they do not add the same to the clipped sum.
            RequestError: their gradients are not those of back-propagation.
        """
        batch = self.batch(size)
        found = batch.through(gradients, self._model)
        self._compare_companions(gradients, batch, found)
        if not full_precision:
            # 16-bit kernels round so much that nothing else would show: in float32, if that is the same computation
            del found
            if (name := other_operation(self._model, batch, self.forward, self.loss)) is not None:
                model = type(self._model).__name__
                raise self._meet(f"{model}, whose operations in 16 bits are others than in float32 (from {name} on)")
            gradients = self._plain_way()
            found = batch.through(gradients, self._model)
        for attempt in range(_TRIES):
            if attempt:
                batch = self.batch(size)
                found = batch.through(gradients, self._model)
            failed = self._unlike_by_size(gradients, batch, found)
            if failed is None:
                break
        else:
            raise self._meet(f"{type(self._model).__name__}, in which {failed}")
        self._compare_with_back_propagation(gradients)

    def compare_few(self, gradients: PerExampleGradients) -> None:
        """What ``compare`` does, where examples cannot meet."""
        batch = self.batch(2)
        self._compare_companions(gradients, batch, batch.through(gradients, self._model))
        self._compare_with_back_propagation(self._plain_way())

    def _plain_way(self) -> PerExampleGradients:
        return per_example_gradients(self._way, self._model, loss=self.loss, forward=nullcontext, copies=self._copies)

    def _compare_companions(self, gradients: PerExampleGradients, batch: Batch, found: PerExample) -> None:
        size = len(batch.labels)
        half = torch.randperm(size, generator=self._generator) < size / 2
        # the first and the last example are each other's companions
        half[-1] = ~half[0]
        choices = [(half.to(self.device), KINDS[0]), (~half.to(self.device), KINDS[1])]
        expected = [contribution(found, kept) for kept, _ in choices]
        unlike = mixing_difference(gradients, self._model, batch, expected, choices, self._generator)
        if unlike is not None:
            kept, others = unlike
            with self.forward():
                layer = mixing_layer(self._model, batch, others, kept)
            raise self._meet(f"{layer}, which mixes the examples of a batch")

    def _unlike_by_size(self, gradients: PerExampleGradients, batch: Batch, found: PerExample) -> str | None:
        size = len(batch.labels)
        # without the first: all others move up by a place, as they do in the data set that lacks this example
        later = torch.arange(size, device=self.device) > 0
        rest, among = batch.at(later.nonzero().flatten()), contribution(found, later)
        found_rest = rest.through(gradients, self._model)
        nudged = moved_by_rounding(gradients, self._model, rest, self._generator)
        moved_up, moved = (contribution(each, later[1:]) for each in (found_rest, nudged))
        if not moved_up.apart(among) <= allowed(moved_up, moved):
            return "examples have other gradients when the first one has left"
        places = torch.tensor(sorted({0, (size - 1) // 2, size - 2}, reverse=True), device=self.device)
        kept = torch.zeros_like(later[1:])
        kept[places] = True
        few = rest.at(places)
        everyone = torch.ones_like(few.labels, dtype=torch.bool)
        one = torch.arange(len(few.labels), device=self.device) == 0
        found_few = few.through(gradients, self._model)
        fewer = contribution(found_few, everyone)
        room = allowed(fewer, contribution(nudged, kept))
        if not fewer.apart(contribution(found_rest, kept)) <= room:
            return "examples have other gradients among fewer and in another order"
        single = few.at(one.nonzero().flatten())
        alone = contribution(single.through(gradients, self._model), everyone[:1])
        if not alone.apart(contribution(found_few, one)) <= room:
            return "an example alone has another gradient than among others"
        return None

    def _compare_with_back_propagation(self, gradients: PerExampleGradients) -> None:
        single = self.batch(1)
        everyone = torch.ones_like(single.labels, dtype=torch.bool)
        found = contribution(single.through(gradients, self._model), everyone).total
        with single.drawn_in(self._model):
            losses = self.loss(self._model(single.images), single.labels.expand(self._copies))
        parts = torch.autograd.grad(losses.mean(), self._parameters, allow_unused=True)
        plain = torch.cat(
            [
                (torch.zeros_like(parameter) if part is None else part).flatten()
                for parameter, part in zip(self._parameters, parts, strict=True)
            ]
        )
        norm = plain.norm()
        if norm > 0 and norm.isfinite() and not (found - plain / norm).norm() <= _WRONG:
            got = f"{self._way}, whose gradients of {type(self._model).__name__} differ from back-propagation"
            raise RequestError("privacy.grad_sample", got, "hooks" if self._way == "functional" else "functional")

    def _meet(self, got: str) -> ExamplesMixed:
        expected = "layers that treat each by itself"
        if self._way != "functional":
            expected += ", or privacy.grad_sample=functional, where examples cannot meet"
        return ExamplesMixed("model.name", got, expected)


class _Work(TorchFunctionMode):
    """Counts multiplications inside, and numbers written, which take time as well."""

    def __init__(self) -> None:
        super().__init__()
        self.work = 0.0

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run ``func`` and count."""
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor):
            weighted = getattr(func, "__name__", "") in _WEIGHTED and len(args) > 1
            self.work += out.numel() * (args[1].numel() / len(args[1]) if weighted else _WRITTEN)
        return out


_WEIGHTED = ("conv1d", "conv2d", "conv3d", "linear")
"""Products with a weight [outputs, ...], whose other dimensions are added up for each number that is written."""
