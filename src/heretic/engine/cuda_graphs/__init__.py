"""Decoding by CUDA graphs."""
