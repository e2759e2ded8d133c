"""From encoded examples to batches on their way to the devices."""
