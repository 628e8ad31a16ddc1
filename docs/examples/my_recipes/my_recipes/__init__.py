"""Options and parts for Recipe Runner, which finds them by the entry point in pyproject.toml."""
