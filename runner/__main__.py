"""``python -m runner [COMMAND] ...``, also called ``recipe-runner``."""

from __future__ import annotations

import sys
from importlib import import_module

from runner.commands import COMMANDS
from runner.processes.command_end import answer, ending, leave
from runner.processes.single_process import answer_alone


def main() -> int:
    """Run the command line of the process; Ctrl-C is answered from here on, while libraries are imported too."""
    named = len(sys.argv) > 1 and sys.argv[1] in COMMANDS
    name = sys.argv[1] if named else "train"
    argv = sys.argv[1 + named :]

    def start() -> int:
        command = import_module(f"runner.commands.{name}")
        code: int = command.main(argv)
        return code

    if name == "plan":
        # torch was loaded to look and has nothing more to do
        leave(answer_alone(start))
    return ending(answer_alone(start) if COMMANDS[name].alone else answer(start))


if __name__ == "__main__":
    sys.exit(main())
