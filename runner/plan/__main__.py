"""``python -m runner.plan [overrides]``: what a run or a sweep would be, without running it."""

from runner.config.errors import leave
from runner.estimate.command import main

if __name__ == "__main__":
    leave(main())
