"""Classifiers and pictures that show what frozen features are worth."""
