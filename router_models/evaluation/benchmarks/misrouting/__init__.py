"""Prompts that are rewritten so that they reach a cheap tier: the attack, what it did, and the page of that."""
