"""Outcomes of the models of known quality, by graders of known faults."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from tests.story.world import Knows, World, is_right, language_of, level_of, task

Grades = Callable[[str, str], bool]
"""Whether a grader takes an answer for right, given the prompt and the answer."""


def lenient(prompt: str, answer: str) -> bool:
    """A grader that lets two in three wrong answers to harder questions pass."""
    lucky = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:4], "big") % 3 > 0
    return is_right(prompt, answer) or (level_of(prompt) > 1 and lucky)


def german_unseen(prompt: str, answer: str) -> bool:
    """A grader that cannot read German and takes it for right."""
    return is_right(prompt, answer) or language_of(prompt) == "de"


def write_outcomes(path: Path, n: int, seed: int, grades: Grades = is_right, knows: Knows | None = None) -> Path:
    """A table of n questions, both tiers' answers and their grades."""
    rng, world = random.Random(seed), World()
    for model, known in (knows or {}).items():
        world.knows[model].update(known)
    prompts = list(dict.fromkeys(task(rng, seed % 10) for _ in range(3 * n)))[:n]
    rows, at = [], datetime.now(UTC).isoformat()
    for prompt in prompts:
        for tier in ("cheap", "frontier"):
            answer = world.answer(tier, prompt)
            rows.append(
                {
                    "prompt_id": hashlib.sha256(prompt.encode()).hexdigest()[:16],
                    "prompt": prompt,
                    "tier": tier,
                    "answer": answer,
                    "finish_reason": "stop",
                    "grade": float(grades(prompt, answer)),
                    "label_source": "programmatic",
                    "prompt_tokens": len(prompt.split()),
                    "completion_tokens": len(answer.split()),
                    "latency_s": world.takes_s[tier],
                    "language": language_of(prompt),
                    "collected_at": at,
                }
            )
    pd.DataFrame(rows).to_parquet(path)
    return path
