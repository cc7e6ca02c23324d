"""Plans: all parts of a Jacobian that do not depend on the numbers in x are prepared once."""
