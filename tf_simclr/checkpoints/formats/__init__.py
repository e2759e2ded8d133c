"""Formats of other programs, and SavedModels."""
