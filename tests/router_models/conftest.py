"""What several tests of the offline half draw from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from router_models.features import LOGPROB_NAMES, logprob_summary
from router_models.outcomes import prompt_id
from router_models.training_cascade import CascadeData
from router_models.types import Answers, Outcome, Prompts, Usage
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


@pytest.fixture(scope="session")
def wide() -> Callable[..., Path]:
    """`wide(path, n=40)` writes a table of one column a tier, with what stands beside grades in found tables."""

    def write(path: Path, n: int = 40) -> Path:
        rng = np.random.default_rng(0)
        frame = pd.DataFrame(
            {
                "prompt": [f"question number {i} about {'law' if i % 2 else 'art'}" for i in range(n)],
                "small": rng.integers(0, 2, n),
                "large": np.where(np.arange(n) == 3, np.nan, 1.0),
                "small_pred": ["A"] * n,
                "small_outchars": rng.integers(1, 99, n),
                "small|max_token_confidence": rng.uniform(size=n),
                "domain": ["law" if i % 2 else "art" for i in range(n)],
                "contaminated": [False] * n,
            }
        )
        frame.to_parquet(path)
        return path

    return write


@pytest.fixture(scope="session")
def outcome() -> Callable[..., Outcome]:
    """`outcome(i, tier, **changes)`: one graded answer as `collect` writes it."""

    def make(i: int, tier: str, **changes: object) -> Outcome:
        prompt = f"What is {i} plus {i}?"
        values: dict[str, object] = {
            "prompt_id": prompt_id(prompt),
            "prompt": prompt,
            "tier": tier,
            "answer": str(2 * i),
            "grade": float(i % 2),
            "usage": Usage(10 + i, 3, 4),
            "latency_s": 0.25,
            "finish_reason": "stop",
            "logprobs": dict.fromkeys(LOGPROB_NAMES, -0.5),
            "metadata": {"family": "sums", "difficulty": "2", "language": "en"},
        }
        return Outcome(**(values | changes))  # type: ignore[arg-type]

    return make
