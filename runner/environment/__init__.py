"""The environment of the process: limits, streams, launchers."""
