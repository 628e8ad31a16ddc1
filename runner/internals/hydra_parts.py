"""What the runner takes from Hydra beside its public interface, which composes by a global object and never asks back.

Nothing here is faster: there is no public way to compose twice in one process without Hydra's global state, to read
one file of the search path, to look at a file before it counts, to have a grid's own rules for splitting, or to take
Hydra's flags apart without its printing and leaving.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.core_plugins.importlib_resources_config_source import ImportlibResourcesConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource

__all__ = [
    "BasicSweeper",
    "Callbacks",
    "FileConfigSource",
    "ImportlibResourcesConfigSource",
    "flag_parser",
    "loader_with",
    "read_option",
    "replace_sources",
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
