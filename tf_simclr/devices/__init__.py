"""TensorFlow's strategies, the workers of a cluster, and what replicas exchange."""
