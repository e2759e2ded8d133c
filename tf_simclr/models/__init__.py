"""The ResNet backbone, its heads, and the model that joins them."""
