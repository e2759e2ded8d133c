"""Strategies of TensorFlow, the workers of a cluster, and what replicas exchange."""
