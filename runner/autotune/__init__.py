"""Values that a request leaves open (type, memory format, batch size), chosen by measurements before the run."""
