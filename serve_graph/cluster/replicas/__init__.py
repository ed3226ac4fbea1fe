"""Several replicas and nodes: how all are called, and what they must not each have for themselves."""
