"""Engines, which turn a Query into a Completion, and the weights that they load."""
