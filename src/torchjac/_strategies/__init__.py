"""Strategies: the ways to the values of a Jacobian, their costs, and the choice among them."""
