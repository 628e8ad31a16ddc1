"""``python -m runner.plan [overrides]``: what a run or a sweep would be, without running it."""

from runner.config.errors import answer, heeding_sigterm, leave


def _start() -> int:
    # here, so that Ctrl-C is answered while Hydra is imported too
    from runner.estimate.command import main

    return main()


if __name__ == "__main__":
    with heeding_sigterm():
        leave(answer(_start))
