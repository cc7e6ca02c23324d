"""Matrices: their sparsity patterns, their values, and the layouts that torch and SciPy have for them."""
