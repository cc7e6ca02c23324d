"""Products with the Jacobian at one point: J S by forward mode, S J by reverse mode, for a batch of seeds at once."""
