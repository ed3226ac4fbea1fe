"""Choosing among families of models: out of fold, within a budget, and whether asking for a signal pays."""
