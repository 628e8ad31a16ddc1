"""``python -m runner [COMMAND] ...``, also called ``recipe-runner`` and ``ml-train``; ``ml-inference`` is ``infer``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from runner.commands import COMMANDS, chosen, unknown_command
from runner.processes.command_end import exit_process, prepare_exit, run_command, run_single_process_command


def main() -> int:
    """Run the command line of the process."""
    return _run(*chosen(sys.argv[1:]))


def infer() -> int:
    """Run the command line of the process as that of ``infer``."""
    return _run("infer", sys.argv[1:])


def _run(name: str, argv: Sequence[str]) -> int:
    """The exit code of the command ``name``; Ctrl-C is answered from here on, while libraries are imported too."""

    def start() -> int:
        if name not in COMMANDS:
            raise unknown_command(name)
        command = import_module(f"runner.commands.{name}")
        code: int = command.main(argv)
        return code

    if name == "plan":
        # torch was loaded to look and has nothing more to do
        exit_process(run_single_process_command(start))
    return prepare_exit(
        run_single_process_command(start) if name not in COMMANDS or COMMANDS[name].alone else run_command(start)
    )


if __name__ == "__main__":
    sys.exit(main())
