"""Rules of online trackers: only the user says where data are sent, never the working folder."""

from __future__ import annotations

import configparser
import os
from pathlib import Path

from runner.config.schema import RunConfig
from runner.config.words.expand_user import expand_user
from runner.errors import RequestError

_FILES = ("wandb/settings", ".wandb/settings")
"""Where W&B looks for settings, below the folder that it is started in; ``wandb init`` writes them."""
_HARMLESS = ("entity", "project", "mode", "disabled", "anonymous")
_SERVER = "https://api.wandb.ai"


def _online_needs_a_tracker(config: RunConfig) -> None:
    if config.tracker.mode == "online" and config.tracker.target is None:
        raise RequestError("tracker.mode", "online without a tracker", "tracker=wandb, or no tracker.mode")


def _online_sends_where_the_user_says(config: RunConfig) -> None:
    """W&B takes the server, to which it shows the user's key, from a file of the working folder, whoever brought it."""
    if config.tracker.mode != "online":
        return
    own = Path(expand_user(os.environ.get("WANDB_CONFIG_DIR", "~/.config/wandb")), "settings")
    server = os.environ.get("WANDB_BASE_URL") or _settings(own).get("base_url", _SERVER)
    for file in _FILES:
        for key, value in _settings(Path(file)).items():
            if key not in _HARMLESS and not (key == "base_url" and value.rstrip("/") == server.rstrip("/")):
                raise RequestError(
                    "tracker.mode",
                    f"online where {file} says {key} = {value}",
                    "WANDB_BASE_URL in the environment to name another server, or that file taken away",
                )


def _settings(file: Path) -> dict[str, str]:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(file, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        raise RequestError("tracker.mode", f"online beside {file.absolute()}", "a file of settings of W&B") from error
    return dict(parser["default"]) if parser.has_section("default") else {}


TRACKER_RELATIONS = (_online_needs_a_tracker, _online_sends_where_the_user_says)
"""Rules across keys about what is sent."""
