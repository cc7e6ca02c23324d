"""From compressed products back to the values of the entries."""
