"""Every signal that is asked for, from `collect` to the request: recorded, trained on, certified, served, billed."""

from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from router_models.data.embeddings.encoder import Encoder
from router_models.errors import CertificateError, DataError
from router_models.estimators.asked_signals import asked_signal, question_digest
from router_models.estimators.signal_costs import signal_costs
from router_models.reports.sections import asked_section
from router_models.training.fit import fit_candidate
from router_models.training.prefix import fit_prefix_stage
from router_models.types import Completion, Query
from serve_graph.config.graph import GraphConfig
from serve_graph.config.judge import SignalsConfig
from serve_graph.engines.echo.engine import question_draw
from serve_graph.errors import EngineError, RequestError, ServeGraphError
from serve_graph.learning.comparing.paths import TierAnswers, path_of
from serve_graph.policy.bindings import (
    asked_by_tier,
    check_certificate,
    collected_binds,
    differing,
    price_lists,
)
from serve_graph.policy.pays import asked_usd, break_even_of
from serve_graph.policy.served_version import ServedVersion
from serve_graph.policy.serving_version import Served, settings_of
from serve_graph.protocol.requests import RequestOptions
from tests.contract.signals.asked_world import (
    EVERY,
    NOW,
    PROMPTS,
    SAMPLED,
    World,
    certified,
    check_escalated,
    closed,
    graph,
    hosted_without_logprobs,
    ingress_of,
    serving,
    tried,
)

FAMILIES = {
    "first_token_entropy": "first-token-entropy",
    "p_true": "p-true",
    "self_verification": "self-verification",
    "agreement": "agreement",
    "last_tier_verdict": "last-tier-verdict",
    "last_tier_likelihood": "last-tier-likelihood",
    "reward:critic": "reward",
}


def test_the_table_holds_every_signal_of_the_cheap_tier_alone(world: World) -> None:
    for name in EVERY:
        column = world.table.answers_of("cheap").signals[name]
        assert math.isclose(len(column), len(PROMPTS))
        assert (column == column).all()
        assert (
            world.table.answers_of("frontier").signals[name] != world.table.answers_of("frontier").signals[name]
        ).all()
    draws = [question_draw(prompt) for prompt in world.table.prompts.texts]
    p_true = world.table.answers_of("cheap").signals["p_true"]
    assert p_true == pytest.approx([min(max(1 - draw, 0.01), 0.99) for draw in draws])


def test_a_table_is_noted_with_how_its_signals_were_asked_for(world: World) -> None:
    noted = collected_binds(world.out)
    assert noted is not None
    settings = settings_of(world.config).asking
    assert noted["signal.agreement"] == question_digest("agreement", settings)
    other = graph(Path("state"), signals={"agreement": {"samples": 5}})
    assert "signal.agreement" in differing(noted, other, ["agreement"])
    assert "signal.agreement" not in differing(noted, other, ["p_true"]), "nobody reads it"


@pytest.mark.parametrize("name", FAMILIES)
async def test_a_signal_is_trained_certified_served_and_billed(world: World, name: str, tmp_path: Path) -> None:
    version = certified(world, verifier=FAMILIES[name])
    assert version.asked_of("cheap") == (name,)
    assert version.asked_of("frontier") == ()
    assert version.certificate is not None
    assert f"signal.{name}" in version.certificate.binds
    assert f"of an answer of cheap it asks for {name}." in asked_section(version)
    ingress = await serving(world, version, tmp_path / "version")
    service, outcomes = ingress.service, set()
    try:
        for prompt in PROMPTS[:24]:
            query = Query.from_prompt(prompt)
            request = service.open(query, "auto", False)
            reply = await service.answer(request)
            state = request.state
            outcomes.add(reply["serve_graph"]["outcome"])
            if reply["serve_graph"]["outcome"] == "routed":
                continue
            lines = [line for line in state.overhead if line.what == name]
            asked = asked_signal(name)
            assert {line.tier for line in lines} == {asked.who("cheap", "frontier")}
            assert len(lines) == (3 if name == "agreement" else 1)
            assert all(line.cost_usd > 0 for line in lines)
            assert request.cost_usd == sum((line.cost_usd for line in (*state.calls, *state.overhead)), Decimal(0))
            at = world.table.prompts.texts.index(prompt)
            assert state.signals[name] == pytest.approx(world.table.answers_of("cheap").signals[name][at])
            assert asked.name == name
            assert not state.unmetered, "what every call cost is known"
    finally:
        await closed(ingress)
    assert {"accepted", "escalated"} <= outcomes


def test_a_tier_without_logprobs_is_asked_for_verdicts_in_words(world: World) -> None:
    silent = hosted_without_logprobs()
    tiers = [silent, world.config.tiers[1].model_dump()]
    with pytest.raises(
        ServeGraphError, match=r"self_verification is asked of tier 'cheap', .*self_verification\.samples"
    ):
        asked_by_tier(GraphConfig.model_validate({"tiers": tiers}), ["self_verification"])
    config = GraphConfig.model_validate({"tiers": tiers, "signals": SAMPLED})
    assert asked_by_tier(config, ["self_verification"]) == {"cheap": ("self_verification",)}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_signal_that_is_late_escalates_and_nothing_is_promised(
    world: World, tmp_path: Path, stream: bool
) -> None:
    hurried = world.config.model_copy(update={"signals": SignalsConfig(timeout_s=1e-6)})
    version = certified(world, verifier="p-true")
    ingress = await serving(replace(world, config=hurried), version, tmp_path / "version")
    try:
        request, facts = await tried(ingress, stream=stream)
    finally:
        await closed(ingress)
    check_escalated(request, facts, "p_true")
    assert any(note.startswith("no p_true: cheap failed: over") for note in request.state.notes)
    assert [line.what for line in request.state.overhead if line.tier == "cheap"] == ["cancelled"]


async def test_a_verifier_model_that_is_away_escalates_and_nothing_is_promised(world: World, tmp_path: Path) -> None:
    class Away:
        async def generate(self, query: Query, left_s: float = math.inf) -> Completion:
            raise EngineError("verifier 'critic' is unavailable", recordable="ActorDiedError")

    ingress = await serving(world, certified(world, verifier="reward"), tmp_path / "version")
    terms = ingress.service.context.asked
    away = replace(terms, engines={**terms.engines, "critic": Away()})
    ingress.service.context = replace(ingress.service.context, asked=away)
    try:
        request, facts = await tried(ingress)
    finally:
        await closed(ingress)
    check_escalated(request, facts, "reward:critic")
    assert "no reward:critic: critic failed: ActorDiedError" in request.state.notes


def test_a_version_is_void_where_its_verifier_model_is_gone_or_another(world: World) -> None:
    version = certified(world, verifier="reward")
    check_certificate(version, world.config, NOW)
    gone = world.config.model_copy(update={"verifiers": ()})
    with pytest.raises(CertificateError, match=r"judges answers of 'cheap' by reward:critic: .* there are: none"):
        check_certificate(version, gone, NOW)
    other = world.config.verifiers[0].model_copy(update={"reads": "pair"})
    with pytest.raises(CertificateError, match=r"signal\.reward:critic changed"):
        check_certificate(version, world.config.model_copy(update={"verifiers": (other,)}), NOW)
    beside = world.config.verifiers[0].model_copy(update={"name": "another"})
    more = world.config.model_copy(update={"verifiers": (world.config.verifiers[0], beside)})
    check_certificate(version, more, NOW)


async def test_a_stream_is_judged_with_its_signal_at_its_end(world: World, tmp_path: Path) -> None:
    ingress = await serving(world, certified(world, verifier="p-true"), tmp_path / "version")
    try:
        request, facts = await tried(ingress, stream=True)
    finally:
        await closed(ingress)
    assert facts["outcome"] in ("accepted", "escalated")
    assert "p_true" in request.state.signals


def test_a_version_is_refused_where_it_would_be_asked_otherwise_or_not_at_all(world: World) -> None:
    version = certified(world, verifier="agreement")
    fewer = world.config.model_copy(
        update={"signals": graph(Path("x"), signals={"agreement": {"samples": 2}}).signals}
    )
    with pytest.raises(CertificateError, match=r"signal\.agreement changed"):
        check_certificate(version, fewer, NOW)
    read = certified(world, verifier="last-tier-likelihood")
    hosted = {"name": "frontier", "engine": "openai", "model": "m", "base_url": "http://x/v1",
              "price": {"input_usd_per_mtok": "1", "output_usd_per_mtok": "20"}}  # fmt: skip
    tiers = [world.config.tiers[0].model_dump(), hosted]
    with pytest.raises(CertificateError, match=r"last_tier_likelihood: .*'frontier', which is hosted-logprobs"):
        check_certificate(read, GraphConfig.model_validate({"tiers": tiers}), NOW)


def test_a_table_without_the_signal_is_refused_with_the_command_that_collects_it(world: World) -> None:
    bare = replace(world.table, confidences={}, answers={
        tier: replace(answers, signals={}) for tier, answers in world.table.answers.items()
    })  # fmt: skip
    settings = replace(settings_of(world.config), router="length", verifier="p-true")
    splits = replace(world, table=bare).splits()
    with pytest.raises(DataError, match=r"hold no p_true of tier 'cheap': collect them .*--signals p_true"):
        fit_candidate(splits, settings, Encoder())


def test_auto_buys_a_signal_where_it_pays_and_only_there(world: World) -> None:
    said: list[str] = []
    settings = replace(settings_of(world.config), router="length")
    splits = world.splits()
    found = fit_candidate(splits, settings, Encoder(), said.append).version
    assert found.asked_of("cheap"), said
    assert any("they pay for themselves" in line for line in said)
    without = fit_candidate(splits, replace(settings, signals=()), Encoder()).version
    assert without.asked_of("cheap") == ()
    free = dict(settings.prices)
    dear = replace(free["cheap"], input_usd_per_mtok=free["cheap"].input_usd_per_mtok * 90)
    tight = replace(settings, prices={**free, "cheap": dear})
    assert "p_true" not in fit_candidate(splits, tight, Encoder()).version.asked_of("cheap")


async def test_signals_are_given_to_who_names_a_tier_and_wants_its_whole_answer(world: World, tmp_path: Path) -> None:
    config = world.config.model_copy(update={"state_folder": tmp_path})
    ingress = ingress_of(config, ServedVersion.of(Served(None, None, "none"), config))
    try:
        for model, stream in (("auto", False), ("cheap", True)):
            with pytest.raises(RequestError, match="of a tier that is named"):
                ingress.service.open(Query.from_prompt("hi"), model, stream, RequestOptions(signals=["p_true"]))
        with pytest.raises(RequestError, match="no verifier model 'nobody'; known: critic"):
            ingress.service.open(Query.from_prompt("hi"), "cheap", False, RequestOptions(signals=["reward:nobody"]))
    finally:
        await closed(ingress)


def test_break_even_counts_what_a_try_asks_for(world: World) -> None:
    asking = certified(world, verifier="p-true")
    now = {tier: prices.at(NOW) for tier, prices in price_lists(world.config).items()}
    foreseen = signal_costs(world.table, "cheap", "frontier", ("p_true",), now, settings_of(world.config).asking)
    assert asked_usd(asking, world.config, now) == pytest.approx(foreseen.mean(), rel=0.1)
    found = break_even_of(asking, world.config, NOW)
    assert found is not None
    assert found.overhead_usd == pytest.approx(asked_usd(asking, world.config, now))


def test_a_verdict_on_first_tokens_cannot_have_what_is_asked_of_whole_answers(world: World) -> None:
    version = certified(world, verifier="agreement")
    with pytest.raises(DataError, match="judges by agreement, asked for once the answer is whole"):
        fit_prefix_stage(version, "cheap", 4, world.splits())


async def test_a_comparison_asks_within_its_budget(world: World, tmp_path: Path) -> None:
    """The other version of a rollout judges by the signals that it reads, whatever the serving one asked for."""

    class Calls:
        def __init__(self) -> None:
            self.made: list[str] = []

        async def make(self, tier: str, query: Query, what: str) -> tuple[Completion, Decimal]:
            self.made.append(tier)
            return await ingress.engines[tier].generate(query), Decimal("0.25")

    ingress = await serving(world, certified(world, verifier="p-true"), tmp_path / "version")
    try:
        request, facts = await tried(ingress)
        calls = Calls()
        answers = TierAnswers(calls, {}, {})
        path = await path_of(ingress.service.context, request.query, None, answers)
    finally:
        await closed(ingress)
    assert (path.tier, path.action) == (facts["tier"], facts["outcome"])
    assert calls.made.count("cheap") == 2, "its answer and P(True)"
    assert answers.spent_usd == Decimal("0.25") * len(calls.made)


def test_collect_refuses_what_a_tier_cannot_be_asked_for_and_what_is_no_signal(world: World) -> None:
    silent = hosted_without_logprobs()
    config = GraphConfig.model_validate({"tiers": [silent, world.config.tiers[1].model_dump()]})
    with pytest.raises(ServeGraphError, match="answers of tier 'cheap': the signal p_true is asked of tier 'cheap'"):
        asked_by_tier(config, ["p_true"])
    assert asked_by_tier(config, ["last_tier_verdict", "agreement"]) == {"cheap": ("agreement", "last_tier_verdict")}
    with pytest.raises(DataError, match=r"no signal that is asked for: reward; .*reward:NAME"):
        asked_by_tier(config, ["reward"])
