import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from router_models.errors import DataError
from router_models.outcomes import OutcomeTable, group_duplicates, prompt_id, read_outcomes
from router_models.routers import ROUTERS, DefaultRouter, ForestRouter
from router_models.training import BASELINES, Comparison, Pair, Scheme, compare_routers, comparison_table
from router_models.types import Prompts

DATA = Path(__file__).parents[3] / "shared" / "data"
real_data = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is absent: real outcomes are not tested")


def pair(n: int = 240, seed: int = 0, *, domain: bool = True, flip: bool = False) -> Pair:
    """Long prompts are hard for the weak tier; the strong one is always right but for some noise."""
    rng = np.random.default_rng(seed)
    topic = rng.integers(0, 6, n)
    long = rng.integers(0, 2, n)
    # No word occurs twice, so that no two prompts look like near-duplicates.
    texts = tuple(" ".join(f"w{seed}x{i}x{j}" for j in range(30 if flag else 4)) for i, flag in enumerate(long))
    vectors = np.eye(12, dtype=np.float32)[topic] + 0.1 * rng.normal(size=(n, 12)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    weak = (rng.uniform(size=n) < np.where(long == 1, 0.2, 0.9)).astype(np.float64)
    strong = (rng.uniform(size=n) < 0.95).astype(np.float64)
    metadata = {"domain": tuple(map(str, topic))} if domain else {}
    table = OutcomeTable(
        Prompts(texts, vectors, metadata),
        tuple(map(prompt_id, texts)),
        ("small", "large"),
        {"small": weak, "large": strong},
        group_duplicates(texts),
    )
    return Pair("made up", table, *(("large", "small") if flip else ("small", "large")))


@cache
def rows() -> tuple[Comparison, ...]:
    return tuple(
        compare_routers(pair(), ["ridge", "surface", "asked"], other=pair(200, 9), folds=3, labels=60, draws=50)
    )


def value(family: str, scheme: Scheme) -> float:
    found = next(row for row in rows() if row.family == family and row.scheme == scheme)
    assert found.apgr is not None
    assert found.apgr.low <= found.apgr.value <= found.apgr.high
    return found.apgr.value


def test_every_scheme_has_its_baselines_and_families() -> None:
    for scheme in Scheme:
        named = [row.family for row in rows() if row.scheme == scheme]
        assert sorted(named) == sorted([*BASELINES, "ridge", "surface", "asked"])
        assert value("random", scheme) == pytest.approx(0.5, abs=0.01)
        assert value("oracle", scheme) > value("length", scheme) > 0.6


def test_a_router_that_sees_length_beats_chance_under_every_scheme() -> None:
    for scheme in Scheme:
        assert value("surface", scheme) > 0.55


def test_topics_that_mean_nothing_win_nothing() -> None:
    assert abs(value("ridge", Scheme.AWAY) - 0.5) < 0.12


def test_a_family_the_table_cannot_feed_is_noted_instead_of_scored() -> None:
    row = next(row for row in rows() if row.family == "asked")
    assert row.apgr is None
    assert "p_yes" in row.note


def test_the_page_has_a_row_for_each_family_and_a_column_for_each_scheme() -> None:
    text = comparison_table(rows(), "Made up")
    assert text.startswith("**Made up**")
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert [line.split("|")[1].strip() for line in lines[1:]] == [*BASELINES, "ridge", "surface", "asked"]
    assert all(scheme in lines[0] for scheme in Scheme)
    assert re.search(r"\| ridge \| 0\.\d{3} \[0\.\d{3}, 0\.\d{3}\]", text)
    assert "n/a" in text
    assert "- asked, in-domain: this router needs the metadata column 'p_yes'" in text


def test_without_domains_or_another_pair_the_columns_say_why() -> None:
    found = compare_routers(pair(domain=False), ["ridge"], schemes=(Scheme.AWAY, Scheme.TRANSFER), folds=3, draws=50)
    notes = {row.scheme: row.note for row in found if row.family == "ridge"}
    assert "no column of domains" in notes[Scheme.AWAY]
    assert "no other pair" in notes[Scheme.TRANSFER]


def test_unknown_families_and_pairs_without_a_gap_are_refused() -> None:
    with pytest.raises(DataError, match="unknown router families magic"):
        compare_routers(pair(), ["magic"])
    with pytest.raises(DataError):
        compare_routers(pair(flip=True), ["ridge"])


def test_equal_seeds_give_equal_tables() -> None:
    def once() -> list[Comparison]:
        return compare_routers(pair(), ["ridge"], schemes=(Scheme.HOME, Scheme.FEW), folds=3, labels=60, draws=50)

    assert once() == once()


@cache
def mmlu() -> Pair:
    table = read_outcomes(DATA / "routellm_mmlu.parquet")
    table = table.with_embeddings(DATA / "routellm_mmlu.minilm.f16.npy")
    return Pair("MMLU", table.take(np.array(table.column("contaminated")) == "False"), "mixtral-8x7b", "gpt-4-1106")


def apgr_of(found: list[Comparison], family: str, scheme: Scheme) -> float:
    row = next(row for row in found if (row.family, row.scheme) == (family, scheme))
    assert row.apgr is not None, row.note
    return row.apgr.value


@real_data
def test_a_forest_beats_prompt_length_on_real_outcomes() -> None:
    found = compare_routers(
        mmlu(), ["forest"], schemes=(Scheme.HOME,), folds=2, draws=200, options={"forest": {"trees": 40}}
    )
    assert apgr_of(found, "oracle", Scheme.HOME) == pytest.approx(1.18, abs=0.005)
    assert apgr_of(found, "length", Scheme.HOME) == pytest.approx(0.579, abs=0.002)
    assert apgr_of(found, "forest", Scheme.HOME) > 0.64


@real_data
@pytest.mark.full
@pytest.mark.timeout(3600)
def test_the_default_router_reaches_its_mark_on_real_outcomes() -> None:
    found = compare_routers(mmlu(), ["default"], schemes=(Scheme.HOME, Scheme.FEW, Scheme.AWAY), draws=200)
    assert apgr_of(found, "default", Scheme.HOME) >= 0.670
    assert apgr_of(found, "default", Scheme.FEW) >= 0.635
    assert apgr_of(found, "default", Scheme.AWAY) >= 0.60
    assert apgr_of(found, "default", Scheme.AWAY) >= apgr_of(found, "length", Scheme.AWAY)


@real_data
@pytest.mark.full
@pytest.mark.timeout(3600)
def test_the_default_router_carries_over_from_another_pair(tmp_path: Path) -> None:
    from router_models.features import Encoder

    other = read_outcomes(DATA / "mmlu_pro_10models.parquet").with_embeddings(Encoder())
    llama = Pair("MMLU-Pro", other, "Meta-Llama-3_1-8B-Instruct", "Meta-Llama-3_1-70B-Instruct")
    found = compare_routers(mmlu(), ["default"], schemes=(Scheme.TRANSFER,), other=llama, draws=200)
    assert apgr_of(found, "default", Scheme.TRANSFER) >= 0.60


@real_data
@pytest.mark.full
@pytest.mark.timeout(1200)
def test_fitting_the_default_router_takes_less_than_a_minute_of_cpu() -> None:
    import time

    table = mmlu().table
    start = time.process_time()
    router = DefaultRouter().fit(table.prompts, mmlu().gain)
    assert time.process_time() - start < 60
    one = table.prompts.take(np.array([5]))
    router.predict(one)
    spent = []
    for _ in range(50):
        start = time.process_time()
        router.predict(one)
        spent.append(time.process_time() - start)
    # The encoder takes some 3 ms of the 5 ms that scoring may take in all.
    assert float(np.median(spent)) < 0.003


def test_the_families_named_here_exist() -> None:
    assert {"forest", "default"} <= set(ROUTERS)
    assert ForestRouter.family == "forest"
