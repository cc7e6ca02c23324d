"""Programs as lists of op calls: recorded, rewritten and run."""
