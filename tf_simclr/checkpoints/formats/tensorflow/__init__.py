"""TensorFlow's checkpoints and SavedModels, ours and the official code's."""
