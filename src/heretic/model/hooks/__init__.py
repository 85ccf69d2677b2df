"""Edits of the running model, as hooks."""
