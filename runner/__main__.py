"""``python -m runner``."""

import sys

from runner.config.errors import answer, ending


def main() -> int:
    """Run the command line of the process; Ctrl-C is answered from here on, while Hydra is imported too."""

    def start() -> int:
        from runner.cli import main

        return main()

    return ending(answer(start))


if __name__ == "__main__":
    sys.exit(main())
