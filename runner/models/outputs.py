"""A check before training that a user's network returns one logit a class."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import nn

from runner.errors import RequestError


def check_outputs(model: nn.Module, *, target: str, channels: int, num_classes: int, image_size: int) -> None:
    """Run shapes, and no arithmetic, through a copy of ``model``; where that cannot be done, nothing is said.

    Raises:
        RequestError: It answers with other than logits ``[b, num_classes]``: a label beyond them would have no output,
            which each device tells in words of its own, and a GPU cannot go on after.
    """
    try:
        copied = copy.deepcopy(model).eval()  # a network may count its calls
        shapes = {name: value.to("meta") for name, value in (*copied.named_parameters(), *copied.named_buffers())}
        with torch.no_grad():
            images = torch.empty(2, channels, image_size, image_size, device="meta")
            output = torch.func.functional_call(copied, shapes, images)
    except Exception:
        # Values decide what it does, or it fails: its first update shows which, with real images and its own words.
        return
    if not isinstance(output, torch.Tensor):
        raise RequestError(
            "model._target_", f"{target}, which answers with a {type(output).__name__}", "logits [b, K] alone"
        )
    if output.shape != (2, num_classes):
        outputs = f"{output.shape[1]} outputs" if output.ndim == 2 else f"the shape {list(output.shape)} for 2 images"
        raise RequestError(
            "model._target_",
            f"{target}, which gives {outputs} where the data have labels from 0 to {num_classes - 1}",
            f"a network with {num_classes} outputs, one for each class",
        )


def with_output_hint(model: nn.Module, *, image_shape: tuple[int, int, int], tell: Callable[[str], None]) -> None:
    """Tell what is most likely a mistake and no error, from the answers of a copy of ``model`` to two random images.

    That is probabilities in the place of logits, which the loss would take for logits, and an answer to one image that
    depends on another one, so that it changes with the batch.  ``image_shape`` is (C, H, W).
    """
    try:
        copied = copy.deepcopy(model).eval()
        images = torch.rand(2, *image_shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            both, alone = copied(images), copied(images[:1])
    except Exception:
        return  # as above
    if not isinstance(both, torch.Tensor) or not both.isfinite().all():
        return
    if (both >= 0).all() and torch.allclose(both.sum(1), torch.ones(len(both), dtype=both.dtype), atol=1e-4):
        tell(
            "the network gives probabilities, as after a softmax, where logits are expected: the loss takes the softmax"
            " once more, which learns slowly; leave it out at the end of the network"
        )
    if not torch.allclose(both[:1], alone, rtol=1e-3, atol=1e-4 * float(both.abs().max())):
        tell(
            "what the network gives for an image depends on the other images of the batch, also in evaluation mode:"
            " its figures and predictions change with data.eval_batch_size"
        )
