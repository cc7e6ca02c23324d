"""Direct accumulation: the tangent program is read for its coefficients, which one program then computes."""
