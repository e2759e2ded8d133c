"""Files that a runtime runs as they are: ONNX and TFLite."""
