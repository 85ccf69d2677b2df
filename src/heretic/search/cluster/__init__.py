"""Measuring by actors, on the GPUs of one machine or of several."""
