"""``model.weights=RUN``: the folder of a run stands for the file of its best weights."""

from __future__ import annotations

from pathlib import Path


def weights_file(named: str) -> Path:
    """The file that ``model.weights`` names: of a run's folder its best weights, or its last where none is best."""
    saved = Path(named) / "checkpoints"
    files = (saved / checkpoint / "model.safetensors" for checkpoint in ("best", "last"))
    return next((file for file in files if file.is_file()), Path(named))
