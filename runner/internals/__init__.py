"""What goes around a library's public interface: each measured, tested against the public way, and switchable."""
