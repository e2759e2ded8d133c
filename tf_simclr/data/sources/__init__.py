"""Where the images come from: TensorFlow Datasets, a folder, drawn shapes; `protocol.Source`."""
