"""A page on this machine that shows a sweep, a search or a run while it goes on."""
