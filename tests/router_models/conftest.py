"""What several tests of the offline half draw from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from router_models.features import LOGPROB_NAMES, logprob_summary
from router_models.training_cascade import CascadeData
from router_models.types import Answers, Prompts
from router_models.verifiers.logistic import sigmoid


@pytest.fixture
def drawn() -> Callable[..., CascadeData]:
    """Draw n answers of a cascade whose evidence is known: `drawn(n, seed=0)`."""
    return _drawn


def _drawn(n: int, seed: int = 0) -> CascadeData:
    """A hard half (many digits) and an easy one; logprobs know part of the rest; the dear tier is right 9 in 10."""
    rng = np.random.default_rng(seed)
    hard = rng.random(n) < 0.5
    luck = rng.normal(size=n)
    cheap = (rng.random(n) < sigmoid(1.0 - 2.0 * hard + 1.5 * luck)).astype(np.float64)
    dear = (rng.random(n) < 0.9).astype(np.float64)
    summaries = [logprob_summary((float(-np.exp(-0.7 * z)),)) for z in luck]
    signals = {name: np.array([s[name] for s in summaries]) for name in LOGPROB_NAMES}
    prompts = tuple(f"number {i}: " + ("12345 " * 6 if h else "plain words") for i, h in enumerate(hard))
    return CascadeData(Answers(Prompts(prompts), ("fine",) * n, ("stop",) * n, signals), cheap, dear)
