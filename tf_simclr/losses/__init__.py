"""Contrastive and supervised losses as pure functions."""
