"""Searches: Optuna draws the values of each run from what the runs before it have measured."""
