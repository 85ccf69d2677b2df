"""Faster products for decoding on a CPU."""
