"""What frozen features are worth: linear probes on top of them."""
