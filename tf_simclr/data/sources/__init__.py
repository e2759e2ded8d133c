"""Sources of images: TensorFlow Datasets, folders, drawn shapes (`protocol.Source`)."""
