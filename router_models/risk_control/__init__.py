"""Scores into probabilities, and probabilities into promises.

`scores` calibrates, `thresholds` certifies one threshold, `joint` several, `certificate` is the proof that is kept,
`labels` says how many labels a proof needs, `paired` compares a policy with always-frontier.
"""
