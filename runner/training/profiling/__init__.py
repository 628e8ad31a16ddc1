"""Timing and profiling of a run's steps."""
