"""Random layers, such as dropout, made to draw for each example by itself.

A library's layer takes the numbers for a whole batch from one generator, so that each example's mask follows from its
position and from how many come before it.  Under DP each mask has to be a function of the example's own key.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import torch
from torch import Tensor, nn

from runner.errors import RequestError


class LayerKeys:
    """The keys from which all random layers of one model draw: one for each image that goes through it."""

    def __init__(self) -> None:
        self._keys: Tensor | None = None
        self._calls = 0

    @classmethod
    def of(cls, model: nn.Module) -> LayerKeys | None:
        """Those of ``model``; None where no layer draws by example."""
        return next((module.keys for module in model.modules() if isinstance(module, _ByExample)), None)

    @property
    def current(self) -> Tensor:
        """int64 [images] on the model's device; none before any were set."""
        return torch.empty(0, dtype=torch.int64) if self._keys is None else self._keys

    def set(self, keys: Tensor | None) -> None:
        """Take ``keys``, int64 [images], for the next forward pass."""
        self._keys, self._calls = keys, 0

    @contextmanager
    def during(self, keys: Tensor | None) -> Iterator[None]:
        """Take ``keys`` inside, and what was there before afterwards."""
        before = self._keys
        self.set(keys)
        try:
            yield
        finally:
            self.set(before)

    def uniform(self, like: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Uniform numbers in [0, 1) of 24 bits for each row of ``like``: float32 [len(like), *shape].

        Those of another call or another key are unrelated (splitmix64: Steele, Lea and Flood, OOPSLA 2014); written
        with torch's operations, because under ``torch.func.vmap`` a key stands for one example.

        Raises:
            RequestError: there is not one key a row: the layer does not see one row an image.
        """
        keys = self._keys
        if keys is None or len(keys) != len(like):
            images = 0 if keys is None else len(keys)
            raise RequestError(
                "model", f"a random layer that sees {len(like)} rows of {images} images", "one row an image under DP"
            )
        self._calls += 1
        count = torch.Size(shape).numel()
        streams = _mix(keys + _signed(self._calls * _GOLDEN))
        numbers = _mix(streams.unsqueeze(1) + torch.arange(1, count + 1, device=like.device) * _GOLDEN)
        return (_shifted(numbers, 40).to(torch.float32).mul_(2.0**-24)).view(len(like), *shape)


class _ByExample:
    """A layer of the library's class whose numbers follow from ``keys``."""

    keys: LayerKeys
    training: bool

    @classmethod
    def take_over(cls, layer: nn.Module, keys: LayerKeys) -> None:
        """Make ``layer`` one of these, where it stands."""
        layer.__class__ = cls  # type: ignore[assignment]
        layer.keys = keys  # type: ignore[assignment]

    def thinned(self, inputs: Tensor, p: float, shape: tuple[int, ...], *, scale: bool = True) -> Tensor:
        """``inputs`` with each part of ``shape`` zero with probability ``p``, the others divided by 1 - p."""
        if not self.training or p == 0.0:
            return inputs
        kept = (self.keys.uniform(inputs, shape) >= p).to(inputs.dtype)
        return inputs * (kept.div_(1.0 - p) if scale and p < 1.0 else kept)


class Dropout(_ByExample, nn.Dropout):
    """``nn.Dropout`` by example."""

    def forward(self, input: Tensor) -> Tensor:
        """Zero single values of ``input`` [b, ...]."""
        return self.thinned(input, self.p, tuple(input.shape[1:]))


class _ChannelDropout(_ByExample):
    p: float
    dimensions: ClassVar[int]

    def forward(self, input: Tensor) -> Tensor:
        """Zero whole channels of ``input`` [b, C, ...]."""
        if input.dim() != self.dimensions + 2:
            raise RequestError("model", f"{type(self).__name__} of {tuple(input.shape)}", "a batch of images under DP")
        return self.thinned(input, self.p, (input.shape[1], *(1,) * self.dimensions))


class Dropout1d(_ChannelDropout, nn.Dropout1d):
    """``nn.Dropout1d`` by example."""

    dimensions = 1


class Dropout2d(_ChannelDropout, nn.Dropout2d):
    """``nn.Dropout2d`` by example."""

    dimensions = 2


class Dropout3d(_ChannelDropout, nn.Dropout3d):
    """``nn.Dropout3d`` by example."""

    dimensions = 3


class _StochasticDepth(_ByExample):
    p: float

    def forward(self, input: Tensor) -> Tensor:
        """Zero whole rows of ``input`` [b, ...]."""
        return self.thinned(input, self.p, _whole(input))


class _DropPath(_ByExample):
    drop_prob: float
    scale_by_keep: bool

    def forward(self, x: Tensor) -> Tensor:
        """Zero whole rows of ``x`` [b, ...]."""
        return self.thinned(x, self.drop_prob or 0.0, _whole(x), scale=self.scale_by_keep)


def _whole(rows: Tensor) -> tuple[int, ...]:
    return (1,) * (rows.dim() - 1)


_OF_TORCH: dict[type[nn.Module], type[_ByExample]] = {
    nn.Dropout: Dropout,
    nn.Dropout1d: Dropout1d,
    nn.Dropout2d: Dropout2d,
    nn.Dropout3d: Dropout3d,
}


def draw_by_example(model: nn.Module) -> None:
    """Let every layer of ``model`` that is known to draw do so by example, with keys that they share.

    Known are torch's dropout layers, and stochastic depth by row of torchvision and timm.  Other layers stay as they
    are; that nothing draws from a generator of the process is for ``runner.privacy.independence.mixing_check`` to see.
    """
    keys = LayerKeys()
    for module in model.modules():
        by_example = _OF_TORCH.get(type(module)) or _of_libraries(module)
        if by_example is not None:
            by_example.take_over(module, keys)


@contextmanager
def drawing(model: nn.Module, images: int) -> Iterator[None]:
    """Inside, the random layers of ``model`` draw for ``images`` images of no run, the same at each entry."""
    keys = LayerKeys.of(model)
    if keys is None:
        yield
        return
    with keys.during(torch.arange(images, device=next(model.parameters()).device)):
        yield


def _of_libraries(layer: nn.Module) -> type[_ByExample] | None:
    """Stochastic depth (Huang et al. 2016) by example in the place of a library's ``layer``; None for other layers.

    A library that was not imported has made no layer, and is not imported here.
    """
    torchvision, timm = (sys.modules.get(name) for name in ("torchvision.ops.stochastic_depth", "timm.layers.drop"))
    kind: type[_ByExample]
    if torchvision is not None and type(layer) is torchvision.StochasticDepth and layer.mode == "row":
        kind = _StochasticDepth
    elif timm is not None and type(layer) is timm.DropPath:
        kind = _DropPath
    else:
        return None
    return type(type(layer).__name__, (kind, type(layer)), {})


def _mix(values: Tensor) -> Tensor:
    """The finaliser of splitmix64 on int64 words, which wrap; in place."""
    values ^= _shifted(values, 30)
    values *= _FIRST
    values ^= _shifted(values, 27)
    values *= _SECOND
    values ^= _shifted(values, 31)
    return values


def _shifted(values: Tensor, bits: int) -> Tensor:
    """``values`` shifted right by ``bits`` as unsigned words."""
    return (values >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def _signed(word: int) -> int:
    """``word`` modulo 2^64 as torch's int64 has it."""
    word &= (1 << 64) - 1
    return word - (1 << 64) if word >> 63 else word


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_FIRST = _signed(0xBF58476D1CE4E5B9)
_SECOND = _signed(0x94D049BB133111EB)
