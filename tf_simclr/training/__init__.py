"""Tasks, gradients, the training step, the loop and its hooks."""
