"""What private steps, runs and sweeps spend."""
