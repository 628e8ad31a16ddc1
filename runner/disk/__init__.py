"""Writing to a disk that may be full, cut off or shared."""
