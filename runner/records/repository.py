"""The commit that the user's folder is at, without running what its repository names.

A folder that was unpacked may be a repository, and ``git status`` runs programs that its configuration says: a monitor
of files, filters of contents, hooks, what fetches missing objects.  Git trusts it where the user owns the files.
"""

from __future__ import annotations

import os
import subprocess
from typing import Any

_SECONDS = 5.0
_OF_THE_REPOSITORY = ("local", "worktree")
"""Scopes of settings that lie in the repository itself; the others are the user's own."""


def describe_repository() -> dict[str, Any] | None:
    """Commit of the repository that the user stands in and whether it has changes; None without git or repository.

    ``dirty`` is None where only a program that the repository itself names could tell.
    """
    commit = _ask("rev-parse", "HEAD")
    return None if commit is None else {"commit": commit.strip(), "dirty": _has_changes()}


def _has_changes() -> bool | None:
    named = _ask("config", "--list", "--includes", "--show-scope", "--name-only", "-z")
    if named is None:
        return None
    words = named.split("\0")
    settings = zip(words[::2], words[1::2], strict=False)
    if any(scope in _OF_THE_REPOSITORY and name.startswith("filter.") for scope, name in settings):
        return None
    # Untracked files are left out: looking for them is slow in a folder full of data.
    changes = _ask("status", "--porcelain", "--untracked-files=no", "--ignore-submodules=dirty")
    return None if changes is None else bool(changes.strip())


def _ask(*arguments: str) -> str | None:
    # --no-optional-locks: a run must not hold up the user's own git commands.
    command = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}"]
    environment = os.environ | {"GIT_ALLOW_PROTOCOL": "none", "GIT_NO_LAZY_FETCH": "1"}
    try:
        answer = subprocess.run(
            [*command, *arguments], capture_output=True, text=True, timeout=_SECONDS, check=False, env=environment
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return answer.stdout if answer.returncode == 0 else None
