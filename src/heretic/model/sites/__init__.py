"""Sites: finding the weights that write to the residual stream, with a proof for each."""
