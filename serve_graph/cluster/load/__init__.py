"""How much work is let in, how much is to be expected, and how many replicas there are for it."""
