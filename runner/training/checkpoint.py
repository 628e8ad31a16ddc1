"""Checkpoints: written whole or not at all, verified before use, and safe to load from strangers.

A checkpoint is a folder ``step_00000120`` with

- ``model.safetensors``: the weights and buffers for inference, averaged with ``trainer.ema_decay``;
- ``state.pt``: everything else that a resumed run needs, tensors and plain values only, the weights behind an average
  included;
- ``manifest.json``: format version, step, plan identity, and the SHA-256 of the two files above.

``last`` and ``best`` are links to such folders.  A folder appears under its name only when all of it is on disk, so
a kill at any moment leaves the previous checkpoint in place.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from runner.config.errors import RunError
from runner.records.files import publish_directory

FORMAT_VERSION = 1
KEEP = 2
"""Checkpoints kept besides the best."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A verified checkpoint in memory."""

    path: Path
    step: int
    """Updates done."""
    identity: str
    """Identity of the plan that it belongs to."""
    weights: dict[str, torch.Tensor]
    state: dict[str, Any]


def save_checkpoint(
    folder: Path, *, step: int, identity: str, weights: dict[str, torch.Tensor], state: dict[str, Any], best: bool
) -> Path:
    """Write ``folder/step_N``, then point ``last`` (and ``best``) to it and drop what is no longer needed.

    The folder is readable by its owner alone: under DP it holds the secret key of the noise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = f"step_{step:08d}"
    target = folder / name
    if not target.exists():
        staging = folder / f".{name}.{os.getpid()}.tmp"
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(mode=0o700)
        buffer = io.BytesIO()
        torch.save(state, buffer)
        files = {"model.safetensors": save_tensors(weights), "state.pt": buffer.getvalue()}
        manifest = {
            "format": FORMAT_VERSION,
            "step": step,
            "identity": identity,
            "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        }
        for file, content in files.items():
            write_private(staging / file, content)
        write_private(staging / "manifest.json", json.dumps(manifest, indent=2).encode())
        publish_directory(staging, target)
    _link(folder / "last", name)
    if best:
        _link(folder / "best", name)
    _drop_old(folder)
    return target


def load_checkpoint(path: Path) -> Checkpoint:
    """Read and verify one checkpoint folder (or a link to it).  No code in it can run.

    Raises:
        RunError: a file is missing, damaged, or of another format.
    """
    path = path.resolve()
    try:
        manifest = json.loads((path / "manifest.json").read_bytes())
        content = {name: (path / name).read_bytes() for name in ("model.safetensors", "state.pt")}
        digests, version = dict(manifest["sha256"]), manifest["format"]
        step, identity = int(manifest["step"]), str(manifest["identity"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"checkpoint {path}: cannot be read ({error})") from error
    if version != FORMAT_VERSION:
        raise RunError(f"checkpoint {path}: format {version}, this version reads format {FORMAT_VERSION}")
    for name, data in content.items():
        if hashlib.sha256(data).hexdigest() != digests.get(name):
            raise RunError(f"checkpoint {path}: {name} is damaged (its SHA-256 differs from the manifest's)")
    try:
        weights = load_tensors(content["model.safetensors"])
        state = torch.load(io.BytesIO(content["state.pt"]), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, SafetensorError, RuntimeError) as error:
        raise RunError(f"checkpoint {path}: holds something other than tensors and plain values") from error
    return Checkpoint(path=path, step=step, identity=identity, weights=weights, state=state)


def write_private(path: Path, content: bytes) -> None:
    """A new file that only its owner can read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _link(link: Path, target: str) -> None:
    staging = link.with_name(f".{link.name}.{os.getpid()}.tmp")
    staging.unlink(missing_ok=True)
    staging.symlink_to(target)
    staging.replace(link)


def _drop_old(folder: Path) -> None:
    kept = {link.resolve() for link in (folder / "best", folder / "last") if link.exists()}
    steps = sorted(folder.glob("step_*"))
    kept.update(path.resolve() for path in steps[-KEEP:])
    for path in steps:
        if path.resolve() not in kept:
            shutil.rmtree(path)
