"""The Python interface, and what it shares with the command line: a request composed, checked and run."""
