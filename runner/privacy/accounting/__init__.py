"""The privacy cost of steps, runs and sweeps."""
