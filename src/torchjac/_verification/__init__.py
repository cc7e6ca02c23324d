"""Verification: are a Jacobian, and gradients through it, those of plain automatic differentiation."""
