"""Prompts as a model reads them: its chat template, its way of thinking, tokens."""
