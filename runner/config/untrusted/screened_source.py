"""Where Hydra reads configuration files, plug-ins included, with a look at those that are not the runner's own."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, ListConfig

from runner.config.groups import RECIPES
from runner.config.plugins import PLUGIN_GROUP, installed_plugins
from runner.config.request.exclusive_keys import resolve_exclusive_keys
from runner.config.store import shipped
from runner.config.untrusted.foreign_files import screen_file
from runner.config.untrusted.foreign_yaml import parse_untrusted, read_untrusted
from runner.internals import hydra_parts


class FileConfigSource(hydra_parts.FileConfigSource):
    """Reads a folder of a plug-in, ``--config-dir`` or ``hydra.searchpath``. (Hydra knows it by this name)."""

    def load_config(self, config_path: str) -> ConfigResult:
        """The file as Hydra reads it.

        Raises:
            RequestError: it is not the runner's own, and sets what such a file may not; or two plug-ins bring it.
        """
        path = Path(self.path, self._normalize_file_name(config_path)).resolve()
        group, _, option = config_path.removesuffix(".yaml").rpartition("/")
        own = path.is_relative_to(_shipped())
        if own or not path.is_file():
            result = super().load_config(config_path)
            if group in RECIPES:
                content: Any = result.config
                resolve_exclusive_keys(content, str(path))
            return result
        if self.provider == PLUGIN_GROUP:
            installed_plugins().refuse_claimed_twice(f"{group}/{option}")
        text = read_untrusted(path, "--config-dir")
        config, header = parse_untrusted(path, "--config-dir", text), self._get_header_dict(text[:512])
        _screen(config, file=str(path), group=group, package=header["package"])
        place = f"{self.scheme()}://{self.path}"
        return ConfigResult(provider=self.provider, path=place, config=config, header=header)


@cache
def _shipped() -> Path:
    return shipped("conf").resolve()


class ImportlibResourcesConfigSource(hydra_parts.ImportlibResourcesConfigSource):
    """Reads ``pkg://`` of ``hydra.searchpath``. (Hydra knows it by this name)."""

    def load_config(self, config_path: str) -> ConfigResult:
        """The file as Hydra reads it; raises as ``FileConfigSource.load_config`` does."""
        result = super().load_config(config_path)
        if self.provider.startswith("hydra.searchpath"):
            content: Any = result.config
            group, package = config_path.rpartition("/")[0], (result.header or {}).get("package")
            _screen(content, file=f"{result.path}/{config_path}", group=group, package=package)
        return result


class PluginFolders(SearchPathPlugin):
    """Has Hydra look into the folders of plug-ins after the shipped one, and before those that are typed."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append them."""
        for plugin in installed_plugins().plugins:
            if plugin.conf.is_dir():
                search_path.append(PLUGIN_GROUP, f"file://{plugin.conf}")


def _screen(config: DictConfig | ListConfig, *, file: str, group: str, package: str | None) -> None:
    screen_file(config, file=file, group=group, package=package)
    if group in ("", *RECIPES):
        resolve_exclusive_keys(config, file)


def install() -> None:
    """Have Hydra read by this module, from now on and in this process; again does nothing."""
    hydra_parts.replace_sources(FileConfigSource, ImportlibResourcesConfigSource)
    hydra_parts.share_compositions(_is_constant)
    Plugins.instance().register(PluginFolders)


def _is_constant(config_path: str, file: ConfigResult) -> bool:
    """Whether a file is the runner's own, or Hydra's, or registered; a caller's questions change, and any other."""
    scheme, _, folder = file.path.partition("://")
    if scheme == "file":
        return Path(folder).resolve().is_relative_to(_shipped())
    return file.path == "pkg://hydra.conf" or (scheme == "structured" and not config_path.startswith("sweep/"))
