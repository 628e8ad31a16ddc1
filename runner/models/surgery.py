"""Adapting a library's network (input channels, stem, patches, head) to the data at hand."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from runner.errors import RequestError
from runner.models.weights import head_name

if TYPE_CHECKING:
    from torchvision.models import VisionTransformer

SMALL = 32
"""Images of at most this many pixels a side get the small stem."""


def adapt_channels(model: nn.Module, channels: int, *, keep: bool) -> None:
    """Give the first convolution ``channels`` inputs.

    With ``keep`` its filters carry over: each new channel gets the sum over the old ones divided by ``channels``, so
    that a grey image calls forth what it did as RGB.  Else they are drawn anew, normal with the old spread.
    """
    conv = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
    if conv.in_channels == channels:
        return
    old = conv.weight.detach()
    shape = (old.shape[0], channels, *old.shape[2:])
    new = old.sum(1, keepdim=True).expand(shape) / channels if keep else torch.randn(shape) * old.std()
    conv.in_channels = channels
    conv.weight = nn.Parameter(new)


def replace_head(model: nn.Module, old_classes: int, num_classes: int) -> str:
    """Replace the layer that gives ``old_classes`` logits by a new one for ``num_classes``; returns its name."""
    name = head_name(model, old_classes)
    if name is None:
        raise RequestError("model.name", type(model).__name__, "a classification model with one linear head")
    head = model.get_submodule(name)
    assert isinstance(head, nn.Linear | nn.Conv2d)
    setattr(head, "out_features" if isinstance(head, nn.Linear) else "out_channels", num_classes)
    head.weight = nn.Parameter(head.weight.new_empty(num_classes, *head.weight.shape[1:]))
    if head.bias is not None:
        head.bias = nn.Parameter(head.bias.new_empty(num_classes))
    head.reset_parameters()
    return name


def shrink_stem(model: nn.Module) -> bool:
    """Keep the resolution of small images in the first layers; returns whether this kind of network is known.

    ResNets: a 3x3 convolution of stride 1 and no max-pooling, the CIFAR form of He et al. 2015, section 4.2.
    MobileNets and EfficientNets: stride 1 in the first convolution.
    """
    from torchvision.models import EfficientNet, MobileNetV2, MobileNetV3, ResNet

    if isinstance(model, ResNet):
        old = model.conv1
        model.conv1 = nn.Conv2d(old.in_channels, old.out_channels, 3, stride=1, padding=1, bias=False)
        nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
        model.maxpool = nn.Identity()
        return True
    if isinstance(model, EfficientNet | MobileNetV2 | MobileNetV3):
        next(m for m in model.modules() if isinstance(m, nn.Conv2d)).stride = (1, 1)
        return True
    return False


def patch_size_for(image_size: int) -> int:
    """Patch of a vision transformer: the largest, up to the usual 16, of which at least 7 x 7 tile the image."""
    sizes = [p for p in range(1, 17) if image_size % p == 0 and 7 <= image_size // p <= 32]
    if not sizes:
        raise RequestError(
            "data.image_size", image_size, "a multiple of a patch of 1 to 16 pixels of which 7 to 32 make a side"
        )
    return sizes[-1]


def adapt_patches(model: VisionTransformer, image_size: int, patch_size: int, *, keep: bool) -> None:
    """Cut the images of torchvision's ``VisionTransformer`` ``model`` into patches of ``patch_size`` pixels.

    With ``keep`` the patch size must be the model's own, and its position embedding is resampled to the new grid
    (Dosovitskiy et al. 2021, section 3.2).
    """
    if image_size % patch_size:
        raise RequestError("data.image_size", image_size, f"a multiple of the model's patch of {patch_size} pixels")
    side = image_size // patch_size
    if keep and patch_size != model.patch_size:
        raise RequestError("model.patch_size", patch_size, f"null or {model.patch_size} with model.weights=DEFAULT")
    if patch_size != model.patch_size:
        model.conv_proj = nn.Conv2d(model.conv_proj.in_channels, model.hidden_dim, patch_size, stride=patch_size)
        nn.init.trunc_normal_(model.conv_proj.weight, std=math.sqrt(1 / (model.conv_proj.in_channels * patch_size**2)))
        torch.nn.init.zeros_(model.conv_proj.bias)
    if side**2 + 1 != model.seq_length:
        model.encoder.pos_embedding = nn.Parameter(
            _resampled(model.encoder.pos_embedding, side)
            if keep
            else torch.empty(1, side**2 + 1, model.hidden_dim).normal_(std=0.02)
        )
    model.image_size, model.patch_size, model.seq_length = image_size, patch_size, side**2 + 1


def check_image_size(model: nn.Module, *, name: str, channels: int, num_classes: int, image_size: int) -> None:
    """Run shapes, and no arithmetic, through ``model``.

    Raises:
        RequestError: on ``data.image_size`` when the model cannot take such images, on ``model.name`` when its output
            is no table of logits.
    """
    was_training = model.training
    shapes = {n: t.to("meta") for n, t in (*model.named_parameters(), *model.named_buffers())}
    try:
        with torch.no_grad():
            images = torch.empty(2, channels, image_size, image_size, device="meta")
            output = torch.func.functional_call(model.eval(), shapes, images)
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise RequestError("data.image_size", image_size, f"a size that model {name} takes ({reason})") from error
    finally:
        model.train(was_training)
    if not isinstance(output, torch.Tensor) or output.shape != (2, num_classes):
        raise RequestError("model.name", name, "a model that answers with one logit per class")


def _resampled(embedding: torch.Tensor, side: int) -> torch.Tensor:
    """Position embedding [1, 1 + s*s, d] on a grid of ``side`` x ``side``; the class token's stays."""
    token, grid = embedding.detach()[:, :1], embedding.detach()[:, 1:]
    old = math.isqrt(grid.shape[1])
    image = grid.reshape(1, old, old, -1).permute(0, 3, 1, 2)
    image = nn.functional.interpolate(image, size=(side, side), mode="bicubic", align_corners=True)
    return torch.cat([token, image.permute(0, 2, 3, 1).reshape(1, side**2, -1)], dim=1)
