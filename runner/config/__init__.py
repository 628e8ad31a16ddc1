"""The typed configuration: what may be asked for, how a request is read, and what is refused."""
