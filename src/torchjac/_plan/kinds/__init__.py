"""The kinds of plans: how each finds its pattern, chooses among strategies, is verified and assembled."""
