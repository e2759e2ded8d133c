"""Optimizers, learning-rate schedules, loss scaling, and which variables train and decay."""
