from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from router_models.data.outcomes import (
    OutcomeTable,
    assert_disjoint,
    group_duplicates,
    prompt_id,
    read_outcomes,
    split,
)
from router_models.errors import DataError

DATA = Path(__file__).parents[5] / "shared" / "data"
real_data = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is absent: real outcomes are not tested")
SHARES = {"train": 0.5, "tune": 0.15, "cert": 0.35}


class CountingEncoder:
    digest = "abc"

    def __init__(self) -> None:
        self.calls = 0

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.calls += 1
        return np.array([[len(text), 1.0] for text in texts], dtype=np.float32)


def test_the_content_hash_ignores_order_and_sees_every_change(wide: Callable[..., Path], tmp_path: Path) -> None:
    table = read_outcomes(wide(tmp_path / "w.parquet"))
    assert table.take(np.arange(len(table))[::-1]).content_hash == table.content_hash
    assert table.take(np.arange(len(table) - 1)).content_hash != table.content_hash
    grades = table.grade("small").copy()
    grades[0] = 1 - grades[0]
    frame = pd.read_parquet(tmp_path / "w.parquet").assign(small=grades.astype(int))
    frame.to_parquet(tmp_path / "changed.parquet")
    assert read_outcomes(tmp_path / "changed.parquet").content_hash != table.content_hash


def test_duplicates_differ_only_in_case_spacing_and_punctuation() -> None:
    groups = group_duplicates(["What is 2+2?", "what  is 2 + 2", "What is 2+3?", "???", "!!!", ""])
    assert groups[0] == groups[1]
    assert len(set(groups.tolist())) == 5


def test_close_embeddings_join_groups_transitively() -> None:
    angles = np.array([0.0, 0.15, 0.30, 1.5])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    groups = group_duplicates(["a", "b", "c", "d"], vectors, cosine=0.98)
    assert groups[0] == groups[1] == groups[2] != groups[3]


def test_splits_are_disjoint_and_about_as_large_as_their_shares(wide: Callable[..., Path], tmp_path: Path) -> None:
    table = read_outcomes(wide(tmp_path / "w.parquet", 2000))
    parts = split(table, SHARES, seed=1)
    assert_disjoint(parts)
    assert sum(map(len, parts.values())) == 2000
    for name, share in SHARES.items():
        assert abs(len(parts[name]) / 2000 - share) < 0.05
    assert split(table, SHARES, seed=2)["train"].prompt_ids != parts["train"].prompt_ids


@given(st.lists(st.text(min_size=1, max_size=12), min_size=2, max_size=40), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_a_prompt_keeps_its_split_when_rows_are_added(texts: list[str], seed: int) -> None:
    def placed(some: list[str]) -> dict[str, str]:
        n = len(some)
        table = OutcomeTable(
            _prompts(some), tuple(map(prompt_id, some)), ("m",), {"m": np.ones(n)}, group_duplicates(some)
        )
        parts = split(table, SHARES, seed)
        assert_disjoint(parts)
        return {text: name for name, part in parts.items() for text in part.prompts.texts}

    before, after = placed(texts[: len(texts) // 2 or 1]), placed(texts)
    assert all(after[text] == name for text, name in before.items())


def _prompts(texts: list[str]):  # type: ignore[no-untyped-def]
    from router_models.types import Prompts

    return Prompts(tuple(texts))


def test_duplicates_across_splits_are_refused(wide: Callable[..., Path], tmp_path: Path) -> None:
    table = read_outcomes(wide(tmp_path / "w.parquet"))
    with pytest.raises(DataError, match="share a prompt"):
        assert_disjoint({"train": table.take(np.arange(20)), "cert": table.take(np.arange(19, 30))})
    assert len(table.without_duplicates_of(table.take(np.arange(19, 30)))) == 29


@pytest.mark.parametrize("shares", [{}, {"a": 0.5}, {"a": 1.5, "b": -0.5}])
def test_shares_that_do_not_sum_to_one_are_refused(
    wide: Callable[..., Path], tmp_path: Path, shares: dict[str, float]
) -> None:
    with pytest.raises(DataError, match="sum to 1"):
        split(read_outcomes(wide(tmp_path / "w.parquet")), shares)


def test_embeddings_are_computed_once_and_then_read_from_the_cache(wide: Callable[..., Path], tmp_path: Path) -> None:
    table, encoder = read_outcomes(wide(tmp_path / "w.parquet")), CountingEncoder()
    first = table.with_embeddings(encoder, tmp_path / "cache")
    again = table.with_embeddings(encoder, tmp_path / "cache")
    assert encoder.calls == 1
    assert first.prompts.embeddings is not None
    np.testing.assert_array_equal(first.prompts.embeddings, again.prompts.embeddings)
    np.testing.assert_allclose(np.linalg.norm(first.prompts.embeddings, axis=1), 1, atol=1e-6)
    assert first.answers["small"].prompts.embeddings is first.prompts.embeddings
    table.take(np.arange(5)).with_embeddings(encoder, tmp_path / "cache")
    assert encoder.calls == 2


def test_embeddings_that_do_not_fit_are_refused(wide: Callable[..., Path], tmp_path: Path) -> None:
    table = read_outcomes(wide(tmp_path / "w.parquet"))
    np.save(tmp_path / "e.npy", np.ones((3, 4), dtype=np.float32))
    with pytest.raises(DataError, match="one row per prompt"):
        table.with_embeddings(tmp_path / "e.npy")
    np.save(tmp_path / "e.npy", np.full((40, 4), np.nan, dtype=np.float32))
    with pytest.raises(DataError, match="row 0 is NaN"):
        table.with_embeddings(tmp_path / "e.npy")
    with pytest.raises(DataError, match="cannot be read"):
        table.with_embeddings(tmp_path / "absent.npy")


@real_data
@pytest.mark.parametrize(
    ("name", "rows", "tiers", "scale"),
    [
        ("routellm_mmlu", 7851, 2, None),
        ("mmlu_pro_10models", 9182, 10, None),
        ("qa_11models_confidence", 3031, 11, None),
        ("mixed_tasks_9models", 5785, 9, None),
        ("arena_hard_13models", 300, 13, (1.0, 10.0)),
    ],
)
def test_every_real_set_is_read(name: str, rows: int, tiers: int, scale: tuple[float, float] | None) -> None:
    table = read_outcomes(DATA / f"{name}.parquet", scale=scale)
    assert len(table) == rows
    assert len(table.tiers) == tiers
    assert_disjoint(split(table, SHARES))


@real_data
def test_the_confidence_set_keeps_its_signals() -> None:
    table = read_outcomes(DATA / "qa_11models_confidence.parquet").only("Meta-Llama-3.1-8B-Instruct", "gpt-4o")
    signals = table.answers_of("Meta-Llama-3.1-8B-Instruct").signals
    assert set(signals) == {"max_token_confidence", "stated_confidence"}
    assert np.isfinite(signals["max_token_confidence"]).all()
