"""Decoded images, kept: on disk, in memory or not at all."""
