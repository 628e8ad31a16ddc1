"""Benchmarks of the runner beside loops written by hand and by other libraries: ``python -m runner bench``."""
