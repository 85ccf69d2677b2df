"""Writes the chosen model: a checkpoint is read, edited and written one tensor at a time."""
