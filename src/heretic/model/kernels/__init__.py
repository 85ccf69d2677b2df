"""Faster matrix products for decoding on a CPU."""
