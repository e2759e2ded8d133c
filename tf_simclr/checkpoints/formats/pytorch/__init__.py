"""PyTorch files: safetensors and .pth."""
