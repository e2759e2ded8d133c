"""The ResNet backbone, its heads, and the complete model."""
