"""Optimizers, learning-rate schedules, and which variable gets what treatment."""
