"""One file for each format that weights are stored in."""
