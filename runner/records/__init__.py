"""The files that a run writes, and copies for trackers and for people."""
