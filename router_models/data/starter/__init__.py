"""Starter tasks: prompts of graded difficulty whose answers a program can grade.

A new installation has no traffic and no labels. `generate` makes questions, any two models answer them, `grade`
grades the answers, and the first router is trained on the result. Nothing here calls a model.
"""

from pathlib import Path

from router_models.data.starter.generate import families, generate
from router_models.data.starter.grade import grade
from router_models.data.starter.references import check_task
from router_models.data.starter.task import Task
from router_models.data.starter.variations import starter_tasks

STARTER_OUTCOMES = Path(__file__).with_name("outcomes.parquet")
"""The recorded answers and grades of the shipped pair of models, for a first version."""
SHIPPED_TASKS, SHIPPED_SEED = 3400, 0
"""What it was collected with: `starter_tasks(SHIPPED_TASKS, seed=SHIPPED_SEED)`, of which it holds all but 13."""

__all__ = [
    "SHIPPED_SEED",
    "SHIPPED_TASKS",
    "STARTER_OUTCOMES",
    "Task",
    "check_task",
    "families",
    "generate",
    "grade",
    "starter_tasks",
]
