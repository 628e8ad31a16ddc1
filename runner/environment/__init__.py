"""What surrounds the process: its limits, its streams, who launched it."""
