"""SimCLR in TensorFlow and Keras: pretraining, fine-tuning, evaluation and export."""

__version__ = "0.1.0"
