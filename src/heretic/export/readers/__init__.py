"""Checkpoints of every kind, read a tensor at a time."""
