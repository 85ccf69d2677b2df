"""Runs prompts through a model under candidate edits."""
