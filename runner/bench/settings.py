"""Settings of the benchmark: threads, rounds, device and models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The same for every part."""

    threads: int
    """CPU threads of each process."""
    launches: int
    """Sets of fresh processes."""
    rounds: int
    """A B B A rounds in each set."""
    work: str
    """Temporary folder."""
    device: str = "cpu"
    """``cpu`` or ``cuda``: where recipes are compared; the other parts are about the CPU."""
    models: Sequence[str] = ("resnet18@32x16",)
    """Those whose recipes are compared, each ``MODEL@SIZExBATCH``."""
    images: Path | None = None
    """Folder of small JPEG files for the input part; None to make some up."""
