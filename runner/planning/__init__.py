"""The plan of a run: what is computed and how, fixed before the first step."""
