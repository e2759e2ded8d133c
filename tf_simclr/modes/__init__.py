"""What --mode asks for: each a story with stations."""
