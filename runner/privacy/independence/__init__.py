"""Whether the examples of a batch depend on each other."""
