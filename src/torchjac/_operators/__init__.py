"""Operators: a Jacobian that is known by its products and never formed."""
