"""Outcomes of two models that are drawn."""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import pandas as pd

from router_models.data.formats import parse_columns
from router_models.data.outcomes import OutcomeTable, table_of
from router_models.evaluation.certified_point import PromiseTerms
from router_models.types import FloatArray

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def table(
    weak: Sequence[float], strong: Sequence[float], prompts: Sequence[str] | None = None, **meta: list[str]
) -> OutcomeTable:
    n = len(weak)
    texts = prompts or [f"question number {i} about subject {i % 7}" for i in range(n)]
    return table_of(
        parse_columns(pd.DataFrame({"prompt": texts, "weak": weak, "strong": strong, **meta}), ("weak", "strong"))
    )


def drawn(n: int = 600, seed: int = 0) -> tuple[OutcomeTable, FloatArray]:
    """Outcomes with a hidden difficulty, and an honest score of it."""
    chance = np.random.default_rng(seed)
    ease = chance.random(n)
    weak = (chance.random(n) < ease).astype(float)
    strong = (chance.random(n) < 0.5 + 0.5 * ease).astype(float)
    domain = [f"subject {i % 5}" for i in range(n)]
    return table(weak.tolist(), strong.tolist(), domain=domain), ease


def terms(t: OutcomeTable, **given: float) -> PromiseTerms:
    n = len(t)
    return PromiseTerms(np.zeros(n), np.ones(n), False, given.get("epsilon", 0.1), given.get("delta", 0.1))
