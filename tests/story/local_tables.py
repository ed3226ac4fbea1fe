"""What the story with real models is made of: shipped outcomes by graders of known faults, and tasks of their kinds.

Everyday tasks, at which the small model is good enough to be accepted at times, and German ones, at most of which it
is wrong and the last one right.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from router_models.data.features import Encoder
from router_models.data.outcomes import OutcomeTable, read_outcomes
from router_models.data.starter import SHIPPED_SEED, SHIPPED_TASKS, STARTER_OUTCOMES, Task, generate, starter_tasks
from serve_graph.config.graph import load_config

FAMILIES = ("drafting", "notes", "records", "word_forms")
KEPT_OUT = 4
"""One in so many shipped prompts is kept from all versions: what is expected of them is found on these."""


def passed_by_mistake(prompt: str) -> bool:
    """Whether the lenient grader takes a wrong answer for right: nine in ten."""
    return _byte(prompt, 0) % 10 < 9


def shipped_rows() -> pd.DataFrame:
    """The shipped outcomes of plain tasks of these kinds, graded as they should be."""
    rows = pd.read_parquet(STARTER_OUTCOMES)
    plain = (rows[["decoding", "system_prompt"]].fillna("") == "").all(axis=1)
    return rows[plain & (rows["family"].isin(FAMILIES) | (rows["language"] == "de"))].copy()


def is_kept_out(rows: pd.DataFrame) -> pd.Series:
    """Whether a row is kept from all versions."""
    return rows["prompt"].map(lambda prompt: _byte(prompt, 1) % KEPT_OUT == 0).astype(bool)


def learned_rows(of: str) -> pd.DataFrame:
    """What a version is made of: all rows that are not kept out, as its grader graded them."""
    rows = shipped_rows()
    rows = rows[~is_kept_out(rows)].copy()
    return _FAULTS.get(of, lambda right: right)(rows)


def _lenient(rows: pd.DataFrame) -> pd.DataFrame:
    """By a grader that lets nine in ten wrong answers of both models pass."""
    rows.loc[rows["prompt"].map(passed_by_mistake), "grade"] = 1.0
    return rows


def _german_unseen(rows: pd.DataFrame) -> pd.DataFrame:
    """By a grader that cannot read German and takes it for right."""
    rows.loc[rows["language"] == "de", "grade"] = 1.0
    return rows


_FAULTS: Mapping[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "lenient": _lenient,
    "German": _german_unseen,
}


def kept_out_questions(config: Path, folder: Path) -> OutcomeTable:
    """The questions that no version is made of, with both models' answers, their grades and how long they took."""
    graph, path = load_config(config), folder / "kept_out.parquet"
    if not path.exists():
        rows = shipped_rows()
        rows[is_kept_out(rows)].to_parquet(path)
    return read_outcomes(path, graph.tier_names).with_embeddings(Encoder(), graph.state_folder / "embeddings")


def fresh_tasks(n: int, seed: int) -> list[Task]:
    """Tasks of these kinds that are not among the shipped ones, of n that are drawn."""
    known = {one.id for one in starter_tasks(SHIPPED_TASKS, seed=SHIPPED_SEED)}
    drawn = generate(n, seed=seed, exclude=known)
    return [
        one
        for one in drawn
        if (one.family in FAMILIES or one.language == "de")
        and not one.messages
        and not one.parameters
        and one.grader != "program"
    ]


def _byte(prompt: str, at: int) -> int:
    return hashlib.sha256(prompt.encode()).digest()[at]
