"""``python -m runner.plan [overrides]``: what a run or a sweep would be, without running it."""

from runner.config.alone import answer_alone
from runner.config.errors import leave


def _start() -> int:
    # here, so that Ctrl-C is answered while Hydra is imported too
    from runner.estimate.command import main

    return main()


if __name__ == "__main__":
    leave(answer_alone(_start))
