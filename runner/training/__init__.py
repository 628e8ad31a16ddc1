"""The one step, the loop around it, and the processes that share it."""
