"""Engines: what turns a Query into a Completion, and the weights they load."""
