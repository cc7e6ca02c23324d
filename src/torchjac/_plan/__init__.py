"""Plans: everything about a Jacobian that does not depend on the numbers in x, prepared once."""
