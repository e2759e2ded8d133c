"""Reads and writes checkpoints, SavedModels, results and the run lock."""
