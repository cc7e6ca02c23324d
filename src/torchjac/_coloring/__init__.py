"""Coloring of sparsity patterns: groups of columns or rows that share a product, and the recovery of values."""
