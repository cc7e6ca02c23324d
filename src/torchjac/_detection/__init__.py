"""Detection: the sparsity pattern of a function, by following what is linear in a direction through its derivative."""
