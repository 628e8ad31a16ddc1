"""From micro-batches to the gradient of an update."""
