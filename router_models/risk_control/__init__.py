"""Probabilities into promises.

`thresholds` certifies one threshold, `joint` several, `certificates` holds the proof that is kept,
`labels` says how many labels a proof needs, `paired` compares a policy with always-frontier.
"""
