"""``python -m runner.bench``: the runner beside other loops, timed."""

import sys

from runner.config.alone import answer_alone
from runner.config.errors import ending


def _start() -> int:
    # here, so that Ctrl-C is answered while libraries are imported too
    from runner.bench.command import main

    return main()


if __name__ == "__main__":
    sys.exit(ending(answer_alone(_start)))
