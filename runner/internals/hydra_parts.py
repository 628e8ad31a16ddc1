"""What the runner takes from Hydra beside its public interface, which composes by a global object and never asks back.

Nothing here is faster but ``share_compositions``: there is no public way to compose twice in one process without
Hydra's global state, to read one file of the search path, to look at a file before it counts, to have a grid's own
rules for splitting, or to take Hydra's flags apart without its printing and leaving.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, ConfigRepository
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.core_plugins.importlib_resources_config_source import ImportlibResourcesConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import DictConfig

__all__ = [
    "BasicSweeper",
    "Callbacks",
    "FileConfigSource",
    "ImportlibResourcesConfigSource",
    "flag_parser",
    "loader_with",
    "read_option",
    "replace_sources",
    "share_compositions",
]


def loader_with(folder: str, extra: str) -> ConfigLoaderImpl:
    """Hydra's loader for the configurations in ``folder`` and, behind it, those in ``extra`` (``--config-dir``)."""
    places = create_config_search_path(folder)
    places.append("command-line", f"file://{extra}")
    return ConfigLoaderImpl(config_search_path=places)


def read_option(loader: Any, root: str, searchpath: Sequence[Override], path: str) -> ConfigResult | None:
    """The file ``path``, such as ``trainer/dp``, as ``loader`` finds it from ``root``; None where there is none."""
    repository = CachingConfigRepository(loader.repository)
    loader._process_config_searchpath(root, list(searchpath), repository)
    return repository.load_config(path)


def replace_sources(*kinds: type[ConfigSource]) -> None:
    """Have Hydra read the scheme of each of ``kinds`` by it, from now on and in this process; again does nothing."""
    Plugins.instance()  # registers Hydra's own, which would be refused beside these
    for kind in kinds:
        SourcesRegistry.instance().types[kind.scheme()] = kind


def flag_parser() -> argparse.ArgumentParser:
    """Hydra's parser of its flags."""
    return get_args_parser()


def share_compositions(constant: Callable[[str, ConfigResult], bool]) -> None:
    """Have Hydra read and merge the same files once in this process, before what is typed; again does nothing.

    ``constant`` says of a path such as ``trainer/dp``, and what Hydra read there, whether it stays as it is while the
    process lives.  Where all files do, the next composition of the same starts from a copy of what the first came to.
    """
    if ConfigRepository.load_config is not _read_file:
        return

    def read_once(self: ConfigRepository, config_path: str) -> ConfigResult | None:
        source = self._find_object_source(config_path, ObjectType.CONFIG)
        key = None if source is None else (source.scheme(), source.provider, source.path, config_path)
        if key is not None and key in _read:
            return _read[key]
        file = _read_file(self, config_path)
        if key is not None and file is not None and constant(config_path, file):
            _read[key] = file
        return file

    def merge_once(self: ConfigLoaderImpl, *, defaults: Any, repo: Any) -> DictConfig:
        files = [repo.load_config(config_path=one.config_path) for one in defaults]
        if not all(constant(one.config_path, file) for one, file in zip(defaults, files, strict=True)):
            return _merge_files(self, defaults=defaults, repo=_Copies(repo))
        key = tuple(
            (one.config_path, one.package, one.primary, file.provider, file.path)
            for one, file in zip(defaults, files, strict=True)
        )
        if key not in _merged:
            _merged[key] = _merge_files(self, defaults=defaults, repo=_Copies(repo))
        return copy.deepcopy(_merged[key])

    repository: Any = ConfigRepository
    loader: Any = ConfigLoaderImpl
    repository.load_config = read_once
    loader._compose_config_from_defaults_list = merge_once


class _Copies:
    """The files of a repository for Hydra to merge, which puts their nodes into the configuration."""

    def __init__(self, repository: Any) -> None:
        self._repository = repository

    def load_config(self, config_path: str) -> ConfigResult:
        file = self._repository.load_config(config_path=config_path)
        return dataclasses.replace(file, config=copy.deepcopy(file.config))


_read_file = ConfigRepository.load_config
_merge_files: Any = ConfigLoaderImpl._compose_config_from_defaults_list
_read: dict[tuple[str, ...], ConfigResult] = {}
_merged: dict[tuple[Any, ...], DictConfig] = {}
