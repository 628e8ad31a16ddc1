"""``python -m runner.compare``: what a sweep shows, and how sure that is."""

import sys

from runner.config.errors import answer, ending, heeding_sigterm


def _start() -> int:
    # here, so that Ctrl-C is answered while libraries are imported too
    from runner.compare.command import main

    return main()


if __name__ == "__main__":
    with heeding_sigterm():
        sys.exit(ending(answer(_start)))
