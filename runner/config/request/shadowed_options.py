"""Options of one name in several folders: which of them counts, for whoever expects the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from runner.config.plugins import installed_plugins
from runner.config.store import shipped


class ShadowedOptions:
    """Which files are not used because an earlier folder has the option.

    Folders are asked in this order: the shipped one, those of plug-ins by their names, then those that are typed.
    """

    def __init__(self, typed: Iterable[Path]) -> None:
        """``typed`` are the folders of ``--config-dir`` and ``hydra.searchpath``."""
        self._words: dict[str, str] = {}
        first = dict.fromkeys(_options_in(shipped("conf")), "the shipped option")
        questions = {file.stem for file in shipped("sweeps").glob("*.yaml")}
        plugins = installed_plugins().plugins
        for plugin in plugins:
            for option in plugin.options & first.keys():
                self._words[option] = f"the shipped option, not that of {plugin}"
            for name in plugin.questions.keys() & questions:
                self._words[f"sweep/{name}"] = f"the shipped question, not that of {plugin}"
        for plugin in plugins:
            first = dict.fromkeys(plugin.options, f"that of {plugin}") | first
        for folder in typed:
            found = {option: str(file) for option, file in _options_in(folder).items()}
            self._words |= {option: f"{first[option]}, not {found[option]}" for option in found.keys() & first.keys()}
            first = found | first

    def notes(self, choices: Mapping[str, object]) -> list[str]:
        """What to say of the options ``choices``, by group, that stand in more than one folder."""
        chosen = {f"{group}/{option}": f"{group}={option}" for group, option in choices.items()}
        return [f"{line} is {self._words[option]}" for option, line in chosen.items() if option in self._words]


def _options_in(folder: Path) -> dict[str, Path]:
    """Files of options, questions apart, of which those of a typed folder come first."""
    files = ((file.relative_to(folder).with_suffix("").as_posix(), file) for file in folder.glob("*/**/*.yaml"))
    return {option: file for option, file in files if not option.startswith("sweep/")}
