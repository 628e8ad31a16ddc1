"""Commands that work in one process, whatever starts them."""

from __future__ import annotations

import sys
from collections.abc import Callable

from runner.environment.launchers import adopt_launch, is_first, launched, leave_launch
from runner.errors import ExitCode
from runner.processes.command_end import answer


def answer_alone(action: Callable[[], int]) -> int:
    """``answer`` of a command that works in one process: of a launch of several the first one does, the others end."""

    def act() -> int:
        adopt_launch()
        if not is_first():
            return ExitCode.DONE
        if launched():
            others = leave_launch() - 1
            print(f"note: this command works in one process; {others} more that were launched end now", file=sys.stderr)
        return action()

    return answer(act)
