"""The gradient of each example by itself, in three ways."""
