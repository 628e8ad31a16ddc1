"""``multirun.yaml`` of a sweep: what Hydra composed for all of it, from which it can be asked for again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf, read_write

from runner.disk.files import write_text

MULTIRUN_FILE = "multirun.yaml"


def set_task(config: DictConfig, task: Sequence[str]) -> None:
    """Have ``config``, Hydra's of a sweep, say that ``task`` was typed: overrides that are not Hydra's own."""
    with read_write(config.hydra.overrides):
        config.hydra.overrides.task = list(task)


def write_multirun(sweep_dir: Path, config: DictConfig) -> None:
    """Write ``config``, Hydra's of the whole sweep, interpolations as they are, for they may name secrets."""
    write_text(sweep_dir / MULTIRUN_FILE, OmegaConf.to_yaml(config))
