"""What a command line asks for, brought to one checked request."""
