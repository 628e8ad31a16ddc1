"""``python -m runner compare``: the verdict on a sweep, and whether its cells compute the updates that they claim."""
