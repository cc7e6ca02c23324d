"""The coloring algorithms: one a file, with the paper it is from; what they share stands beside them."""
