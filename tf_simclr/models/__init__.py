"""The encoder, its heads, and the model that joins them."""
