"""Keras files of both versions: .keras and .weights.h5."""
