"""Decoding by recorded CUDA graphs."""
