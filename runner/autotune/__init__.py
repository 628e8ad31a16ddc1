"""What a request leaves to the machine, chosen by measuring before the run starts."""
