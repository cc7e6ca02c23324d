"""``compile=True``: a plan's program of tensor ops, compiled."""
