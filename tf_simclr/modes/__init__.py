"""One module for each --mode, which reads from top to bottom in the order of events."""
