"""Direct accumulation: the tangent program read for its coefficients, and what is left to run as one program."""
