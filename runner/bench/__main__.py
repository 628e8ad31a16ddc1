"""``python -m runner.bench``: the runner beside other loops, timed."""

import sys

from runner.config.errors import answer, ending, heeding_sigterm


def _start() -> int:
    # here, so that Ctrl-C is answered while libraries are imported too
    from runner.bench.command import main

    return main()


if __name__ == "__main__":
    with heeding_sigterm():
        sys.exit(ending(answer(_start)))
