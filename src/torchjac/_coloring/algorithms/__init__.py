"""Coloring algorithms: each file has one algorithm, with its paper, or a part that several share."""
