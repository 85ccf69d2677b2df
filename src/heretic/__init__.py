"""Finds the direction along which a language model refuses, and the ablation that removes it."""

__version__ = "0.1.0"
