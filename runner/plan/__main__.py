"""``python -m runner.plan [overrides]``: what a run or a sweep would be, without running it."""

import sys

from runner.estimate.command import main

if __name__ == "__main__":
    sys.exit(main())
