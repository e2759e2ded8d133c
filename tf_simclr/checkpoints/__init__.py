"""Everything that is read from and written to disk: checkpoints, SavedModels, a run's files."""
