"""The privacy statement of a run: one page for people who do not program, from the records alone."""
