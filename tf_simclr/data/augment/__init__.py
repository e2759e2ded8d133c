"""From an image to its views."""
