"""What is read from disk and written there: checkpoints, SavedModels, a run's small files."""
