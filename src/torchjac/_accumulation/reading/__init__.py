"""The reading that keeps coefficients: what each kind of op does to them."""
