"""How a candidate is measured: refusals and KL divergence."""
