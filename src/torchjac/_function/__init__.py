"""Functions of users: as functions of flat lists of tensors, their gradients, and modules as functions."""
