"""The difference that rounding alone can make between two measurements of the same edit."""

Rounding = tuple[float, float]
"""Tolerance of a KL divergence in nats: the sum of a constant and a share of the divergence."""


def kl_rounding(dtype: str, quantized: bool) -> Rounding:
    """The change that rounding can make to a mean first-token KL divergence.

    In float32 neither the order of sums nor where an edit is rounded shows. In 16 bits, or with packed weights, KL
    moves by some thousandths.
    """
    return (0.001, 0.01) if dtype == "float32" and not quantized else (0.01, 0.15)
