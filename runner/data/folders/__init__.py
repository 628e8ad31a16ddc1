"""Which images lie in which folders, and what the folders mean."""
