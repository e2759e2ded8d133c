"""SimCLR in TensorFlow and Keras: pretraining, fine-tuning, evaluation and export."""
