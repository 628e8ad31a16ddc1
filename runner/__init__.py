"""Recipe Runner: compose, run and compare training recipes for vision models."""
