"""Patterns and matrices: which entries can be nonzero, their values, and the layouts they come in."""
