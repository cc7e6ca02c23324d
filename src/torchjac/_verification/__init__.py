"""Verification: a Jacobian, and gradients through it, are compared with plain automatic differentiation."""
