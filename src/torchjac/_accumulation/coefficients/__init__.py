"""What a tensor of the tangent program depends on: index maps, and a coefficient for each."""
