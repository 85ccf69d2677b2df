"""Which weights write to the residual stream: found, probed and proved."""
