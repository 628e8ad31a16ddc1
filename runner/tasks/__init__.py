"""What is learned: what a label is, the loss of each example, and when an answer is right."""
