"""Coloring: from a sparsity pattern to groups of columns and rows that share a product, and back to the values."""
