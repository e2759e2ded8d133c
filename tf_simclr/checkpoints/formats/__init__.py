"""Reads and writes each format of weights, one module per format."""
