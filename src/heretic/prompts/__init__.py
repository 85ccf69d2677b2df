"""Prompt sets: the packaged ones, and those that users bring."""
