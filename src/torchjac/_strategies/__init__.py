"""Strategies: the ways to the values of a Jacobian, what each costs, and which one is chosen."""
