"""A picture of what augmentation makes of the first batch: each image before and after, with its class."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Sequence
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from runner.config.augment_config import AugmentConfig
from runner.disk.files import write_bytes
from runner.errors import plainly
from runner.records.printable import printable
from runner.training.gradients.micro_batches import micro_batches

if TYPE_CHECKING:
    from runner.training.parts import Parts

FILE = "preview.png"
COLUMNS = 8
ROWS = 2
CELL = 120
"""Pixels of the picture that an image takes, at least."""
_GAP, _TEXT, _MARGIN = 8, 20, 64
_INK, _MUTED, _PAPER = "#1f2328", "#6b7480", "#ffffff"


def write_preview(parts: Parts, run_dir: Path) -> None:
    """Write ``preview.png`` into ``run_dir``: the first images of the first logical batch, as training sees them."""
    write_bytes(run_dir / FILE, draw_preview(parts))


def draw_preview(parts: Parts) -> bytes:
    """The PNG: pairs of rows, before and after; below, the class, or the share of each class of a mixed image."""
    rows = parts.sampler.rows(0)
    batches = micro_batches(parts, 0, rows, rank=0, size=1)
    found: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    for shown, images, labels in batches:
        found.append((shown, images, labels))
        if sum(len(part) for part, _, _ in found) >= COLUMNS * ROWS:
            break
    shown, images, labels = (torch.cat(list(pieces))[: COLUMNS * ROWS] for pieces in zip(*found, strict=True))
    before, _ = parts.feed.batch(shown, None)
    data = parts.plan.semantic.data
    title = f"{data.name}: " + (", ".join(changes(data.augment)) or "no augmentation")
    captions = [caption(label, parts.plan.classes) for label in labels]
    plain, changed = (pixels(found, data.mean, data.std) for found in (before, images))
    return _draw(plain, changed, captions, title=title)


def changes(config: AugmentConfig) -> list[str]:
    """What is on, as ``key=value``."""
    off = AugmentConfig()
    values = {one.name: getattr(config, one.name) for one in fields(config)}
    return [f"{name}={plainly(value)}" for name, value in values.items() if value != getattr(off, name)]


def caption(label: torch.Tensor, classes: Sequence[str]) -> str:
    """The class of ``label``, int64 [], or the classes of shares [K], the largest first."""
    if label.dim() == 0:
        return printable(classes[int(label)])
    shares = sorted(((share, name) for share, name in zip(label.tolist(), classes, strict=True)), reverse=True)
    if shares[0][0] >= 0.995:
        return printable(shares[0][1])
    return " + ".join(f"{share:.0%} {printable(name)}" for share, name in islice(shares, 2))


def pixels(images: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> NDArray[np.uint8]:
    """Normalised ``[b, C, H, W]`` as uint8 ``[b, H, W, 3]``; of bands other than colours the first, in grey."""
    wide = images.detach().cpu().double()
    back = wide * torch.tensor(std).double().view(-1, 1, 1) + torch.tensor(mean).double().view(-1, 1, 1)
    if back.shape[1] != 3:
        back = back[:, :1].expand(-1, 3, -1, -1)
    found: NDArray[np.uint8] = (255 * back).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return found


def _draw(before: NDArray[np.uint8], after: NDArray[np.uint8], captions: Sequence[str], *, title: str) -> bytes:
    # Whole multiples keep small images sharp.
    side = (
        before.shape[1] * max(1, -(-CELL // before.shape[1])) if before.shape[1] < CELL else min(before.shape[1], 224)
    )
    columns = min(COLUMNS, len(before))
    blocks = -(-len(before) // COLUMNS)
    block = 2 * side + _GAP + _TEXT + 2 * _GAP
    size = (_MARGIN + columns * (side + _GAP) + _GAP, 2 * _GAP + _TEXT + blocks * block)
    paper = Image.new("RGB", size, _PAPER)
    pen = ImageDraw.Draw(paper)
    large, small = _font(15), _font(12)
    pen.text((_GAP, _GAP), _fitted(pen, title, large, size[0] - 2 * _GAP), fill=_INK, font=large)
    for number in range(len(before)):
        top = 2 * _GAP + _TEXT + number // COLUMNS * block
        left = _MARGIN + number % COLUMNS * (side + _GAP)
        for row, source in enumerate((before, after)):
            image = Image.fromarray(source[number]).resize((side, side), Image.Resampling.NEAREST)
            paper.paste(image, (left, top + row * (side + _GAP)))
            if number % COLUMNS == 0:
                middle = top + row * (side + _GAP) + side // 2
                pen.text((_GAP, middle), ("before", "after")[row], fill=_MUTED, font=small, anchor="lm")
        text = _fitted(pen, captions[number], small, side)
        pen.text((left, top + 2 * side + 2 * _GAP), text, fill=_INK, font=small)
    page = io.BytesIO()
    paper.save(page, "PNG", optimize=True)
    return page.getvalue()


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """DejaVu Sans, which comes with matplotlib, and has more letters than Pillow's own; found without an import."""
    found = importlib.util.find_spec("matplotlib")
    assert found is not None
    assert found.origin is not None
    return ImageFont.truetype(Path(found.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf", size)


def _fitted(pen: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """``text``, shortened to ``width`` pixels."""
    if pen.textlength(text, font=font) <= width:
        return text
    while text and pen.textlength(f"{text}…", font=font) > width:
        text = text[:-1]
    return f"{text}…"
