"""Turns the content of a report into one HTML file."""
