"""W&B's environment variables: those that a run honours, and the keys that replace the others."""

from __future__ import annotations

from collections.abc import Mapping

from runner.config.schema import TrackerConfig

SINK = "runner.records.wandb_sink.WandbSink"

_LABELS = ("PROJECT", "ENTITY", "RUN_GROUP", "TAGS", "NOTES")
"""What a run is filed under, unless the tracker's own keys say it."""
_CONNECTION = (
    *("API_KEY", "BASE_URL", "APP_URL", "CONFIG_DIR", "CREDENTIALS_FILE", "IDENTITY_TOKEN_FILE", "ORGANIZATION"),
    *("HTTP_PROXY", "HTTPS_PROXY", "HTTP_TIMEOUT", "FILE_PUSHER_TIMEOUT", "INSECURE_DISABLE_SSL", "USERNAME"),
    *("USER_EMAIL", "CACHE_DIR", "DATA_DIR", "ARTIFACT_DIR", "ERROR_REPORTING", "CORE_DEBUG", "DEBUG", "X_EXECUTABLE"),
    *("SERVICE", "INIT_TIMEOUT"),
)
"""Accounts, servers and caches, which are the machine's and the user's business."""
_OWN_IDENTITY = "a run goes on under the identity that its checkpoint keeps"
_NO_CODE = "neither code nor git is sent"
_SILENT = "W&B says nothing"
_TYPED = {
    "MODE": "tracker.mode=online or tracker.mode=offline",
    "DISABLED": "tracker=none",
    "NAME": "name=NAME",
    "DIR": "hydra.run.dir=FOLDER: its files lie in the run's folder",
    "RUN_ID": _OWN_IDENTITY,
    "RESUME": _OWN_IDENTITY,
    "RESUME_FROM": _OWN_IDENTITY,
    "FORK_FROM": _OWN_IDENTITY,
    "RUN_DIR": "hydra.run.dir=FOLDER",
    "JOB_TYPE": "it is train, or report",
    "SWEEP_ID": "--multirun, or hydra/sweeper=optuna",
    "SILENT": _SILENT,
    "QUIET": _SILENT,
    "CONSOLE": _SILENT,
    "SAVE_CODE": _NO_CODE,
    "DISABLE_CODE": _NO_CODE,
    "DISABLE_GIT": _NO_CODE,
}
"""What stands for a variable that is ignored, for the usual ones."""


def is_honoured(name: str) -> bool:
    """Whether W&B may see the variable ``name`` when it starts for a run."""
    return not name.startswith("WANDB_") or name.removeprefix("WANDB_") in (*_LABELS, *_CONNECTION)


def ignored_variables(tracker: TrackerConfig, environ: Mapping[str, str]) -> str | None:
    """A note on W&B's variables in ``environ`` that change nothing, and what does; None where there is none."""
    if tracker.target != SINK:
        return None
    agreed = {"WANDB_MODE": tracker.mode, "WANDB_DISABLED": "false", "WANDB_SILENT": "true", "WANDB_CONSOLE": "off"}
    names = [name for name in sorted(environ) if not is_honoured(name) and environ[name] not in ("", agreed.get(name))]
    if not names:
        return None
    typed = [_TYPED.get(name.removeprefix("WANDB_"), "") for name in names]
    listed = [f"{name} ({cure})" if cure else name for name, cure in zip(names, typed, strict=True)]
    return f"a run ignores these of W&B's environment variables: {', '.join(listed)}"
