"""Sweeps: many runs of one question, each in a process of its own, and what becomes of them."""
