"""Draws images and their views as training sees them."""
