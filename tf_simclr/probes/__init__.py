"""Evaluates frozen features."""
