"""From a command line to one checked request."""
