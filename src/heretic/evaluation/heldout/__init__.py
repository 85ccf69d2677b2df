"""Metrics on held-out prompts, which neither directions nor search have used."""
