"""The dependence of a tensor of the tangent program on v: index maps, and a coefficient for each."""
