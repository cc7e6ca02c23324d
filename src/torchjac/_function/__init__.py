"""A user's function, seen flat: leaves in, leaves out; its gradient, its kernels, modules as functions."""
