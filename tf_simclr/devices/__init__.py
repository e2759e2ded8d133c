"""TensorFlow strategies, the workers of a cluster, and communication between replicas."""
