"""How far the same edit's figures may lie apart for no other reason than rounding."""

Rounding = tuple[float, float]
"""Of a KL divergence in nats: a number, and a share of the divergence itself; the sum of both is allowed."""


def kl_rounding(dtype: str, quantized: bool) -> Rounding:
    """What rounding may move a mean first-token KL divergence by.

    In float32 neither the order of sums nor where an edit is rounded shows. In 16 bits, or with packed weights, KL
    moves by some thousandths.
    """
    return (0.001, 0.01) if dtype == "float32" and not quantized else (0.01, 0.15)
