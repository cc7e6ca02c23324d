"""Reading a computation that is linear in v: which memory depends on v, and through which kinds of op."""
