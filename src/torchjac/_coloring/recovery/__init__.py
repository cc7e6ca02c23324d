"""Recovery: the values of the entries from the compressed products."""
