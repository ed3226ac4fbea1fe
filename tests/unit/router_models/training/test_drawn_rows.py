"""Rows of served traffic: what was chosen rather than drawn certifies nothing, and weights are kept and thinned."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_models.data.outcomes import OutcomeTable, group_duplicates, read_outcomes
from router_models.errors import DataError
from router_models.estimators.routers.text.linear import SurfaceRouter
from router_models.estimators.verifiers.learned.combined import CombinedVerifier
from router_models.estimators.verifiers.learned.logprob import LogprobVerifier
from router_models.training.splits import split_outcomes
from router_models.training.whose_labels import CHOSEN, without_chosen
from router_models.types import Answers, FloatArray, Prompts
from router_models.types.drawn import draws_tried, sample_weights
from router_models.types.exchange import LOGPROB_NAMES, logprob_summary

TIERS = ("cheap", "frontier")


def table(n: int, drawn: list[str], weights: list[str] | None = None, source: str = "human") -> OutcomeTable:
    texts = tuple(f"question {'easy ' * (i % 3)}{i}" for i in range(n))
    metadata = {"drawn": tuple(drawn), **({} if weights is None else {"sample_weight": tuple(weights)})}
    right = (np.arange(n) % 2).astype(np.float64)
    return OutcomeTable(
        Prompts(texts, None, metadata), texts, TIERS, {"cheap": right, "frontier": np.ones(n)},
        group_duplicates(texts), label_sources=dict.fromkeys(TIERS, (source,) * n),
    )  # fmt: skip


@given(st.lists(st.sampled_from(["yes", "no", ""]), min_size=30, max_size=60), st.sampled_from(["given", "asked"]))
def test_no_chosen_row_is_ever_evidence(drawn: list[str], evidence: str) -> None:
    rows = table(len(drawn), drawn)
    splits = split_outcomes(rows, TIERS, 0, evidence=evidence)  # type: ignore[arg-type]
    assert "no" not in splits.cert.prompts.metadata["drawn"]
    plain = split_outcomes(table(len(drawn), [""] * len(drawn)), TIERS, 0)
    in_part = set(plain.cert.prompts.texts)
    kept = {text for text, said in zip(rows.prompts.texts, drawn, strict=True) if said != "no"}
    assert set(splits.cert.prompts.texts) == in_part & kept
    assert splits.chosen == len(in_part - kept)
    assert set(splits.train.prompts.texts) == set(plain.train.prompts.texts), "they train all the same"


def test_a_sample_with_a_gap_certifies_nothing_unless_the_promise_needs_no_grade_there() -> None:
    """A judge's ties say that the cheap answer is wrong, and nothing of the other: without them less is wrong."""
    rows = table(60, ["yes"] * 60)
    last = rows.grades["frontier"].copy()
    last[::7] = np.nan
    counts = {"frontier": np.ones(60)}
    tied = replace(rows, grades={**rows.grades, "frontier": last}, completion_tokens=counts)
    harm = split_outcomes(tied, TIERS, 0, last_ungraded=True)
    assert (harm.gaps, len(harm.cert)) == (0, len(split_outcomes(rows, TIERS, 0).cert))
    other = split_outcomes(tied, TIERS, 0)
    assert (other.gaps, len(other.cert)) == (9, 0)
    assert len(other.train) > 0
    plain = replace(tied, prompts=replace(tied.prompts, metadata={}))
    assert len(split_outcomes(plain, TIERS, 0).cert) > 0, "of other tables rows may lack grades by chance"


def test_a_sample_that_people_labelled_in_part_and_a_judge_in_part_certifies_neither() -> None:
    """Which part people labelled they may have chosen; a judge's labels do not count beside theirs."""
    rows = table(60, ["yes"] * 60)
    mixed = replace(rows, label_sources=dict.fromkeys(TIERS, ("human", "human", "judge:m") * 20))
    for evidence in ("given", "judge"):
        splits = split_outcomes(mixed, TIERS, 0, evidence=evidence)  # type: ignore[arg-type]
        assert (len(splits.cert), splits.gaps > 0) == (0, True)
    plain = replace(mixed, prompts=replace(mixed.prompts, metadata={}))
    assert len(split_outcomes(plain, TIERS, 0).cert) > 0


def test_a_certificate_counts_what_was_left_out_for_how_it_was_chosen() -> None:
    splits = split_outcomes(table(60, ["yes", "no"] * 30), TIERS, 0)
    assert splits.labels_used.source == "human"
    assert splits.labels_used.left_out == {CHOSEN: splits.chosen}


def test_what_estimates_reads_drawn_rows_alone_and_says_where_there_are_none() -> None:
    assert len(without_chosen(table(10, ["yes", "no"] * 5))) == 5
    plain = table(10, [""] * 10)
    assert without_chosen(plain) is plain
    with pytest.raises(DataError, match="all 10 rows were chosen"):
        without_chosen(table(10, ["no"] * 10))


def test_rows_of_no_weight_do_not_train_and_tune_is_thinned_to_rows_of_equal_weight() -> None:
    n = 600
    weights = [("0", "1", "4")[i % 3] for i in range(n)]
    splits = split_outcomes(table(n, ["yes"] * n, weights), TIERS, 0)
    assert set(splits.train.prompts.metadata["sample_weight"]) == {"1", "4"}
    kept = [splits.tune.prompts.metadata["sample_weight"].count(weight) for weight in ("0", "1", "4")]
    assert kept[0] == 0
    assert kept[1] < 0.5 * kept[2], "one in four of the light ones"


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_the_number_of_draws_is_read_beside_rows_that_do_not_say_it(ending: str, tmp_path: Path) -> None:
    """A column of numbers with gaps holds 4 as 4.0."""
    path = tmp_path / f"outcomes.{ending}"
    given = pd.DataFrame({"prompt": ["a b c", "d e f"], "cheap": [1, 0], "frontier": 1, "draws_tried": [4, None]})
    given.to_csv(path, index=False) if ending == "csv" else given.to_parquet(path)
    assert draws_tried(read_outcomes(path).prompts) == 4


@pytest.mark.parametrize(
    ("samples", "tried", "of"),
    [
        (["a", "a", "b", "b"], ["3", "3", "3", "3"], 9),
        (["a", "a", "b", "b"], ["3", "3", "2", "2"], 6),
        (["a", "a", "", ""], ["3", "3", "", ""], 3),
        (["", "", "", ""], ["3", "3", "2", "2.0"], 6),
        (["a", "a", "a", "a"], ["4", "4.0", "4", "4"], 4),
    ],
    ids=["of three each", "of three and of two", "beside collected rows", "of releases before", "one sample"],
)
def test_of_several_samples_in_a_table_each_was_chosen_with_each_of_the_others(
    samples: list[str], tried: list[str], of: int
) -> None:
    """Two of three tries each are one of nine pairs: a bound at δ/3 for each pair fails with up to 3 δ."""
    prompts = Prompts(tuple("abcd"), None, {"draw_id": tuple(samples), "draws_tried": tuple(tried)})
    assert draws_tried(prompts) == of


@pytest.mark.parametrize("said", ["0", "-1", "many", "1.5", "nan", "inf"])
def test_numbers_of_draws_that_are_none_are_refused_by_name(said: str, tmp_path: Path) -> None:
    path = tmp_path / "outcomes.jsonl"
    path.write_text(json.dumps({"prompt": "a", "cheap": 1, "draws_tried": said}))
    with pytest.raises(DataError, match="'draws_tried'"):
        read_outcomes(path)


@pytest.mark.parametrize("said", ["heavy", "-1", "nan", "inf"])
def test_weights_that_are_none_are_refused_by_name(said: str, tmp_path: Path) -> None:
    path = tmp_path / "outcomes.jsonl"
    rows = [{"prompt": name, "cheap": 1, "sample_weight": weight} for name, weight in (("a", "1"), ("b", said))]
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(DataError, match="'sample_weight'"):
        read_outcomes(path)


def test_batches_without_weights_have_none() -> None:
    for metadata in ({}, {"sample_weight": ("", "")}):
        assert sample_weights(Prompts(("a", "b"), None, metadata)) is None


def doubled(X: Prompts, y: FloatArray) -> tuple[Prompts, FloatArray]:
    """The right rows twice."""
    rows = np.concatenate([np.arange(len(y)), np.flatnonzero(y == 1)])
    return X.take(rows), y[rows]


def test_a_weight_of_two_counts_as_two_rows() -> None:
    rng = np.random.default_rng(0)
    y = (rng.random(300) < 0.5).astype(np.float64)
    plain = Prompts(tuple(f"{'a b c ' * int(rng.integers(1, 9))}{i}" for i in range(300)))
    weighted = replace(plain, metadata={"sample_weight": tuple("2" if right else "1" for right in y)})
    assert SurfaceRouter.takes_weights
    alike, twice = SurfaceRouter().fit(plain, y).predict(plain), SurfaceRouter().fit(*doubled(plain, y)).predict(plain)
    found = SurfaceRouter().fit(weighted, y).predict(plain)
    assert found.mean() == pytest.approx(twice.mean(), abs=0.02)
    assert found.mean() > alike.mean() + 0.1


@pytest.mark.parametrize("family", [LogprobVerifier, CombinedVerifier])
def test_verifiers_that_take_weights_count_by_them(family: type[LogprobVerifier | CombinedVerifier]) -> None:
    rng = np.random.default_rng(1)
    y = (rng.random(300) < 0.5).astype(np.float64)
    summaries = [logprob_summary((float(-np.exp(rng.normal())),)) for _ in y]
    signals = {name: np.array([one[name] for one in summaries]) for name in LOGPROB_NAMES}
    plain = Answers(Prompts(tuple(f"q {i}" for i in range(300))), ("fine",) * 300, ("stop",) * 300, signals)
    said = {"sample_weight": tuple("3" if right else "1" for right in y)}
    weighted = replace(plain, prompts=replace(plain.prompts, metadata=said))
    assert family.takes_weights
    assert family().fit(weighted, y).predict(plain).mean() > family().fit(plain, y).predict(plain).mean() + 0.1
