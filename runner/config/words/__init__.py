"""What people type, and how it is answered: keys, flags, help, the names of other tools."""
