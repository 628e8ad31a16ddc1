"""Whether a network of the user's own answers with one logit for each class, found out before it is trained."""

from __future__ import annotations

import copy

import torch
from torch import nn

from runner.config.errors import RequestError


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
