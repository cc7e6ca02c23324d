"""Compiling (``compile=True``): a plan's program of tensor ops, captured and compiled in regions."""
