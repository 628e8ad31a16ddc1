"""Ranges of single values, and rules across them."""
