"""The output folders of a run or sweep, from Hydra's part of the configuration."""

from __future__ import annotations

import os
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from runner.config.words.expand_user import expand_user
from runner.config.words.override_lines import refuse_undecoded
from runner.errors import RequestError

HYDRA_FOLDER = ".hydra"
"""Where a run's folder holds its configuration and what was typed."""


def run_folder(config: DictConfig, *, in_sweep: bool, writable: bool) -> str:
    """Folder of a run, or of a cell ``in_sweep``; raises as ``named_folder`` does.

    Nor may what was asked lie elsewhere than where each program looks that reads a run's folder.
    """
    if config.hydra.output_subdir != HYDRA_FOLDER:
        expected = f"{HYDRA_FOLDER}, where resume=, reports and inference read what was asked of a run"
        raise RequestError("hydra.output_subdir", config.hydra.output_subdir, expected)
    if not in_sweep:
        return named_folder(config, "hydra.run.dir", writable=writable)
    sweep = named_folder(config, "hydra.sweep.dir", writable=writable)
    return str(Path(sweep, str(OmegaConf.select(config, "hydra.sweep.subdir"))))


def refuse_unrecordable(key: str, folder: Path) -> None:
    """Refuse a folder whose name Hydra cannot keep in the configuration that it writes.

    ``${`` in it would be taken for a key there, and a name that is not in the encoding of this process is no text.

    Raises:
        RequestError: names ``key``.
    """
    if "${" in str(folder):
        raise RequestError(key, folder, "a folder without ${ in its name, which stands for a key of the configuration")
    refuse_undecoded(key, str(folder))


def named_folder(config: DictConfig, key: str, *, writable: bool) -> str:
    """The folder that ``key`` names.

    Raises:
        RequestError: it names none, or one that cannot be made or written, if it has to be ``writable``.
    """
    try:
        folder = Path(expand_user(OmegaConf.select(config, key))).absolute()
    except (OmegaConfBaseException, TypeError) as error:
        section, _, last = key.rpartition(".")
        got = OmegaConf.to_container(OmegaConf.select(config, section), resolve=False)
        assert isinstance(got, dict)
        reason = str(error).splitlines()[0]
        raise RequestError(key, got[last], f"the name of a folder ({reason})") from error
    if OmegaConf.select(config, key) == "":
        raise RequestError(key, "", "the name of a folder, such as . for this one")
    refuse_unrecordable(key, folder)
    if not writable:
        return str(folder)
    try:
        existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    except OSError as error:  # a name that is too long
        raise RequestError(key, folder, f"the name of a folder ({error.strerror})") from error
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise RequestError(key, folder, f"a folder that can be written, which {existing} is not")
    return str(folder)
