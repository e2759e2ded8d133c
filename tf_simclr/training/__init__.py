"""Steps, loop, checkpoints, evaluation and export."""
