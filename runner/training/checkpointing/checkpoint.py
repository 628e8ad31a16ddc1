"""Checkpoints: written whole or not at all, verified before use, and safe to load from strangers.

A checkpoint is a folder ``step_00000120`` with

- ``model.safetensors``: the weights and buffers for inference, averaged with ``trainer.ema_decay``;
- ``state.pt``: everything else that a resumed run needs, tensors and plain values only, the weights behind an average
  included;
- ``manifest.json``: format version, step, recipe (the semantic part of the plan) and its identity, the SHA-256 of the
  two files above, and one of all that.

With ``trainer.keep=weights`` a finished run's has no ``state.pt``, and its manifest says so.

A folder appears under its name only when all of it is on disk, so a kill at any moment leaves the previous checkpoint
in place.  ``last`` and ``best`` are links to such folders, for people and for the test at the end; a kill can come
between them, so each checkpoint knows which one was the best, and a run that goes on puts the links right.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from runner.data.cache.cache_policy import available_memory
from runner.disk.core_dumps import disable_core_dumps
from runner.disk.files import ordinary, publish_directory, write_bytes
from runner.disk.json_files import parse_json
from runner.disk.ownership import OPEN_TO_OTHERS
from runner.disk.unsupported import is_unsupported, warn_once
from runner.errors import RunError
from runner.training.checkpointing.plain_state import refuse_unholdable

FORMAT_VERSION = 3
KEEP = 2
"""Checkpoints kept besides the best."""

_FILES = ("model.safetensors", "state.pt")
_WEIGHTS_ALONE = "weights_alone"
"""In a manifest without ``state.pt``: what of that is needed still."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A verified checkpoint in memory."""

    path: Path
    step: int
    """Updates done."""
    best: int
    """Step of the best checkpoint so far, which may be this one; 0 when none has been chosen."""
    identity: str
    """Identity of the plan that it belongs to."""
    recipe: dict[str, Any]
    """The plan's semantic part."""
    weights: dict[str, torch.Tensor]
    state: dict[str, Any]
    resumable: bool = True
    """False where only the weights were kept."""


class DamagedCheckpoint(RunError):
    """A checkpoint that is not what was written: an older one may do."""


def save_checkpoint(
    folder: Path,
    *,
    step: int,
    best: int,
    identity: str,
    recipe: dict[str, Any],
    weights: dict[str, torch.Tensor],
    state: dict[str, Any],
) -> Path:
    """Write ``folder/step_N``, then point ``last`` to it and ``best`` to step ``best``, and drop what nobody needs.

    The folder is readable by its owner alone: under DP it holds the secret key of the noise.

    Raises:
        RunError: it could not be read again, or cannot be written, because the disk is full, say; the checkpoints
            before it are as they were.
    """
    refuse_unholdable("the run", state)
    target = folder / _name(step)
    staging = folder / f".{target.name}.{os.getpid()}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            staging.mkdir(mode=0o700)
            buffer = io.BytesIO()
            torch.save(state, buffer)
            files = {"model.safetensors": save_tensors(weights), "state.pt": buffer.getvalue()}
            manifest = {
                "format": FORMAT_VERSION,
                "step": step,
                "best": best,
                "identity": identity,
                "recipe": recipe,
                "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
            }
            for file, content in files.items():
                write_private(staging / file, content)
            write_private(staging / "manifest.json", seal(manifest))
            if state.get("secret_key") is not None and (staging / "state.pt").stat().st_mode & OPEN_TO_OTHERS:
                warn_once(
                    "the file system keeps no permissions: others may read the secret key of the noise in checkpoints"
                )
            publish_directory(staging, target)
        _link(folder / "last", step)
        _link(folder / "best", best)
        _drop_old(folder, best)
    except OSError as error:
        shutil.rmtree(staging, ignore_errors=True)
        reason = error.strerror or str(error)
        raise RunError(
            f"the checkpoint of step {step} cannot be saved ({reason}); what was saved before is whole"
        ) from error
    return target


def load_checkpoint(path: Path) -> Checkpoint:
    """Read and verify one checkpoint folder (or a link to it).  No code in it can run.

    Raises:
        DamagedCheckpoint: a file is missing or damaged.
        RunError: the checkpoint is of another format, or holds something else than it should.
    """
    path = find_saved(path.parent, path.name).resolve()
    try:
        manifest = _unseal(ordinary(path / "manifest.json").read_bytes())
        files = _FILES if manifest is None else _files_of(manifest)
        sizes = sum((path / name).stat().st_size for name in files)
        if (room := available_memory()) is not None and sizes > room:
            raise RunError(f"checkpoint {path}: {sizes:,} bytes, and {room:,} of memory are free")
        content = {name: ordinary(path / name).read_bytes() for name in files}
    except OSError as error:
        raise DamagedCheckpoint(f"checkpoint {path}: cannot be read ({error})") from error
    if manifest is None or not _is_manifest(manifest):
        raise DamagedCheckpoint(f"checkpoint {path}: manifest.json is damaged")
    if manifest["format"] != FORMAT_VERSION:
        raise RunError(f"checkpoint {path}: format {manifest['format']}, this version reads format {FORMAT_VERSION}")
    for name, data in content.items():
        if hashlib.sha256(data).hexdigest() != manifest["sha256"][name]:
            raise DamagedCheckpoint(f"checkpoint {path}: {name} is damaged (its SHA-256 differs from the manifest's)")
    try:
        weights = load_tensors(content["model.safetensors"])
        if resumable := "state.pt" in files:
            _refuse_compressed(content["state.pt"])
            state = torch.load(io.BytesIO(content["state.pt"]), map_location="cpu", weights_only=True)
        else:
            state = {"ledger_entry": manifest[_WEIGHTS_ALONE]["ledger_entry"]}
        state = _State(path, state)
    except Exception as error:  # what the two libraries answer crafted files with, is up to the files
        raise RunError(f"checkpoint {path}: holds something other than tensors and plain values") from error
    if state.get("secret_key") is not None:
        disable_core_dumps()
    named = {key: manifest[key] for key in ("step", "best", "identity", "recipe")}
    return Checkpoint(path=path, weights=weights, state=state, resumable=resumable, **named)


def keep_weights_alone(path: Path) -> None:
    """Remove from the checkpoint folder ``path`` what only a run that goes on needs, the secret key of noise included.

    At any moment it is a whole checkpoint: the manifest stops counting ``state.pt`` before that goes.

    Raises:
        RunError: it is damaged; nothing is removed.
        OSError: the files cannot be changed.
    """
    checkpoint = load_checkpoint(path)
    if checkpoint.resumable:
        manifest = parse_json(ordinary(path / "manifest.json").read_bytes())
        del manifest["digest"], manifest["sha256"]["state.pt"]
        manifest[_WEIGHTS_ALONE] = {"ledger_entry": checkpoint.state["ledger_entry"]}
        write_bytes(path / "manifest.json", seal(manifest), mode=0o600)
    (path / "state.pt").unlink(missing_ok=True)


def find_saved(folder: Path, name: str) -> Path:
    """The checkpoint ``name`` in ``folder``; ``last`` and ``best`` also where links to them were lost or never made.

    Such links do not survive every copy, and not every file system has them.
    """
    path = folder / name
    if path.exists() or path.is_symlink() or name not in ("last", "best"):
        return path
    for newest in saved_steps(folder):
        with contextlib.suppress(OSError):
            manifest = _unseal(ordinary(newest / "manifest.json").read_bytes())
            if manifest is not None and _is_manifest(manifest):
                return newest if name == "last" else folder / _name(manifest["best"])
    return path


class _State(dict[str, Any]):
    """The values of ``state.pt`` by name."""

    def __init__(self, path: Path, values: dict[str, Any]) -> None:
        super().__init__(values)
        self._path = path

    def __missing__(self, name: str) -> NoReturn:
        raise RunError(f"checkpoint {self._path}: state.pt has no {name}")


def _is_manifest(found: dict[str, Any]) -> bool:
    kinds = {"format": int, "step": int, "best": int, "identity": str, "recipe": dict, "sha256": dict}
    if found.get("format") != FORMAT_VERSION:
        return "format" in found
    right = all(type(found.get(key)) is kind for key, kind in kinds.items())
    return right and all(name in found["sha256"] for name in _files_of(found))


def _files_of(manifest: dict[str, Any]) -> tuple[str, ...]:
    kept = manifest.get(_WEIGHTS_ALONE)
    return _FILES[:1] if isinstance(kept, dict) and isinstance(kept.get("ledger_entry"), str | None) else _FILES


def _refuse_compressed(content: bytes) -> None:
    """What torch saves is not compressed, so that nothing in it is larger than the file."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if any(file.compress_type != zipfile.ZIP_STORED for file in archive.infolist()):
            raise ValueError("compressed")


def saved_steps(folder: Path) -> list[Path]:
    """The checkpoints in ``folder``, damaged ones too, from the newest to the oldest."""
    return sorted(folder.glob("step_*"), reverse=True)


def discard_after(folder: Path, checkpoint: Checkpoint | None) -> None:
    """Remove what the run will write again after ``checkpoint`` and what a kill left half done; put the links right."""
    for path in folder.glob(".*.tmp"):
        path.unlink() if path.is_symlink() else shutil.rmtree(path)
    step, best = (0, 0) if checkpoint is None else (checkpoint.step, checkpoint.best)
    _link(folder / "last", step)
    _link(folder / "best", best)
    for path in saved_steps(folder):
        if path.name > _name(step):
            shutil.rmtree(path)
    _drop_old(folder, best)


def seal(manifest: dict[str, Any]) -> bytes:
    """``manifest`` as JSON with a digest of itself, so that no byte of it can change unnoticed."""
    digest = hashlib.sha256(json.dumps(manifest).encode()).hexdigest()
    return json.dumps({**manifest, "digest": digest}, indent=2).encode()


def _unseal(sealed: bytes) -> dict[str, Any] | None:
    """What was sealed; None when it is not what ``seal`` wrote, byte for byte."""
    try:
        manifest = parse_json(sealed)
    except ValueError:
        return None
    if not isinstance(manifest, dict):
        return None
    manifest.pop("digest", None)
    return manifest if seal(manifest) == sealed else None


def write_private(path: Path, content: bytes) -> None:
    """A new file that only its owner can read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _name(step: int) -> str:
    return f"step_{step:08d}"


def _link(link: Path, step: int) -> None:
    """Point ``link`` to the checkpoint of ``step``; without one there is no link."""
    if not (link.parent / _name(step)).exists():
        link.unlink(missing_ok=True)
        return
    staging = link.with_name(f".{link.name}.{os.getpid()}.tmp")
    try:
        staging.symlink_to(_name(step))
    except OSError as error:
        if not is_unsupported(error):
            raise
        warn_once("the file system has no links: checkpoints/best and last are known by what is in the checkpoints")
        return
    staging.replace(link)


def _drop_old(folder: Path, best: int) -> None:
    steps = saved_steps(folder)
    kept = {_name(best), *(path.name for path in steps[:KEEP])}
    for path in steps:
        if path.name not in kept:
            shutil.rmtree(path)
