"""Where the images come from: TensorFlow Datasets, folders, drawn shapes."""
