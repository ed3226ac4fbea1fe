"""Starter tasks: prompts of graded difficulty that a program can mark.

A new installation has no traffic and no labels. `generate` makes questions, any two models answer them, `grade`
marks the answers, and the first router is trained on the result. Nothing here calls a model.
"""

from router_models.starter.generate import families, generate
from router_models.starter.grade import grade
from router_models.starter.task import Task

__all__ = ["Task", "families", "generate", "grade"]
