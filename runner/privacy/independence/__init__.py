"""Checks that the examples of a batch do not depend on each other."""
