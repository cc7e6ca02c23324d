"""The reading that keeps coefficients, and the effect of each kind of op on them."""
