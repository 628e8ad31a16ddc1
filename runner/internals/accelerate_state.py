"""Accelerate's memory of the processes that it has joined, which outlives the group."""

from __future__ import annotations

from typing import Any


def forget_processes(state: Any) -> None:
    """Let the next ``accelerate.PartialState`` of this process join a group anew.

    ``state`` is the one whose group is left; its ``destroy_process_group`` alone would leave the number and rank of
    processes that are gone to whoever asks next.
    """
    state._reset_state()
