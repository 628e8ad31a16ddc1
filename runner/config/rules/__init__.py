"""What values may be, and what they must satisfy together."""
