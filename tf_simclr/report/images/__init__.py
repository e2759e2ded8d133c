"""Shows on images what an encoder has learned: maps, neighbors, confusions."""
