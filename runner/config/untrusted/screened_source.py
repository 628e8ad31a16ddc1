"""Hydra's reader of configuration files in folders, with a look at those that are not the runner's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.plugins.config_source import ConfigResult

from runner.config.groups import RECIPES
from runner.config.request.exclusive_keys import resolve_exclusive_keys
from runner.config.store import shipped
from runner.config.untrusted.foreign_files import screen_file
from runner.config.untrusted.foreign_yaml import parse_brought, read_brought
from runner.internals import hydra_parts


class FileConfigSource(hydra_parts.FileConfigSource):
    """Reads a folder of ``--config-dir`` or ``hydra.searchpath``. (Hydra knows it by this name)."""

    def load_config(self, config_path: str) -> ConfigResult:
        """The file as Hydra reads it.

        Raises:
            RequestError: it is not the runner's own, and sets what such a file may not.
        """
        path = Path(self.path, self._normalize_file_name(config_path)).resolve()
        group = config_path.rpartition("/")[0]
        if path.is_relative_to(shipped("conf").resolve()) or not path.is_file():
            result = super().load_config(config_path)
            if group in RECIPES:
                content: Any = result.config
                resolve_exclusive_keys(content, str(path))
            return result
        text = read_brought(path, "--config-dir")
        config, header = parse_brought(path, "--config-dir", text), self._get_header_dict(text[:512])
        screen_file(config, file=str(path), group=group, package=header["package"])
        if group in ("", *RECIPES):
            resolve_exclusive_keys(config, str(path))
        place = f"{self.scheme()}://{self.path}"
        return ConfigResult(provider=self.provider, path=place, config=config, header=header)


def install() -> None:
    """Have Hydra read folders by this module, from now on and in this process; again does nothing."""
    hydra_parts.replace_file_source(FileConfigSource)
