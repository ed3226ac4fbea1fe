"""Offline commands keep what they note under the working directory: here that is a folder of the test's own.

The pictures of their reports are not drawn.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest


@pytest.fixture(autouse=True)
def _own_working_directory(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, pictures_undrawn: None
) -> None:
    monkeypatch.chdir(Path(tmp_path_factory.mktemp("cwd")))


@pytest.fixture(scope="session")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 500 prompts, with vectors beside them: what the cheap tier is sure of it mostly gets right."""
    chance = np.random.default_rng(0)
    n = 500
    right = chance.random(n) < 0.7
    frame: dict[str, Any] = {
        "prompt": [f"{'short' if r else 'rather long and winding'} question number {i}" for i, r in enumerate(right)],
        "kind": [f"kind {i % 3}" for i in range(n)],
        "cheap": right.astype(float),
        "frontier": (chance.random(n) < 0.95).astype(float),
        "cheap|max_token_confidence": 1 / (1 + np.exp(-chance.normal(size=n) - 3 * right)),
    }
    for tier in ("cheap", "frontier"):
        frame[f"{tier}_prompt_tokens"] = chance.integers(50, 300, n)
        frame[f"{tier}_completion_tokens"] = chance.integers(5, 100, n)
        frame[f"{tier}_latency_s"] = chance.gamma(2, 0.2 if tier == "cheap" else 1.0, n)
    path = tmp_path_factory.mktemp("data") / "outcomes.parquet"
    pd.DataFrame(frame).to_parquet(path)
    vectors = chance.normal(size=(n, 8)).astype(np.float32)
    np.save(path.with_suffix(".npy"), vectors)
    return path
