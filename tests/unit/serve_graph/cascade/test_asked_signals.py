"""Every signal that is asked for, from `collect` to the request: recorded, trained on, certified, served, billed.

The tiers are echo engines, whose answers about answers follow from the question (`engines.echo.engine`); all else is
the graph's own, in this process.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from router_models.data.embeddings.encoder import Encoder
from router_models.data.outcomes import OutcomeTable, read_outcomes
from router_models.data.starter import Task
from router_models.errors import CertificateError, DataError
from router_models.estimators.asked_signals import ASKED_SIGNALS, asked_signal, question_digest
from router_models.estimators.signal_costs import first_costs, signal_costs
from router_models.reports.sections import asked_section
from router_models.training.certify import certify_candidate
from router_models.training.fit import fit_candidate
from router_models.training.prefix import fit_prefix_stage
from router_models.training.splits import LabelledSplits, split_outcomes
from router_models.types import Completion, Query
from router_models.versions.router_version import RouterVersion
from serve_graph.config.graph import GraphConfig
from serve_graph.config.judge import SignalsConfig
from serve_graph.engines.echo.engine import question_draw
from serve_graph.errors import EngineError, RequestError, ServeGraphError
from serve_graph.gateway.request import Request
from serve_graph.learning.comparing.paths import TierAnswers, path_of
from serve_graph.policy.bindings import (
    asked_by_tier,
    check_certificate,
    collected_binds,
    differing,
    price_lists,
    signal_binds,
)
from serve_graph.policy.pays import asked_first_usd, asked_usd, break_even_of
from serve_graph.policy.served_version import ServedVersion
from serve_graph.policy.serving_version import Served, settings_of
from serve_graph.protocol.requests import RequestOptions
from tests.fixtures.upstream import DirectHandle

if TYPE_CHECKING:
    from serve_graph.cluster.ingress_deployment import IngressDeployment

NOW = datetime.now(UTC)
FAMILIES = {
    "first_token_entropy": "first-token-entropy",
    "p_true": "p-true",
    "self_verification": "self-verification",
    "agreement": "agreement",
    "last_tier_verdict": "last-tier-verdict",
    "last_tier_likelihood": "last-tier-likelihood",
    "reward:critic": "reward",
}
EVERY = (*ASKED_SIGNALS, "reward:critic")
RIGHT_BELOW = 0.6
PROMPTS = [f"[{i}] " + "Tell me the name of the river that flows through this town, please. " * 3 for i in range(220)]


def graph(folder: Path, **changes: Any) -> GraphConfig:
    """Two echo tiers, dear words of the last one, router and verifier in the ingress."""
    price = {"input_usd_per_mtok": "0.1", "output_usd_per_mtok": "0.2"}
    dear = {"input_usd_per_mtok": "1", "output_usd_per_mtok": "20"}
    tiers = [
        {"name": "cheap", "engine": "echo", "price": price, "skill": 0.95, "latency_s": 0.0},
        {"name": "frontier", "engine": "echo", "price": dear, "skill": 1.0, "latency_s": 0.0},
    ]
    critic = {"name": "critic", "engine": "echo", "price": {"input_usd_per_mtok": "0.05", "output_usd_per_mtok": "0"}}
    policy = {"placement": "ingress", "epsilon": 0.3, "delta": 0.2}
    state = {"state_folder": str(folder)}
    return GraphConfig.model_validate({"tiers": tiers, "verifiers": [critic], "policy": policy, **state, **changes})


def ingress_of(config: GraphConfig, begun: ServedVersion) -> IngressDeployment:
    from serve_graph.cluster.echo_deployment import EchoDeployment
    from serve_graph.cluster.ingress_deployment import IngressDeployment

    tiers: Any = {tier.name: DirectHandle(EchoDeployment(tier)) for tier in config.every_tier}  # type: ignore[arg-type]
    return IngressDeployment(config, begun, tiers, None, None, b"x" * 16)


async def closed(ingress: IngressDeployment) -> None:
    ingress.sink.close()
    await ingress.store.close()


def hosted_without_logprobs() -> dict[str, Any]:
    price = {"input_usd_per_mtok": "1", "output_usd_per_mtok": "2"}
    silent: dict[str, Any] = {"name": "cheap", "engine": "openai", "model": "m", "base_url": "http://x/v1"}
    return silent | {"price": price, "parameters": {"logprobs": None}}


def task(prompt: str) -> Task:
    right = {"accepted": ["echo" if question_draw(prompt) < RIGHT_BELOW else "nothing of it"]}
    return Task(prompt[:6], prompt, "notes", 1, "en", "mentions", right, "echo", None)


async def collected(config: GraphConfig, prompts: list[str], out: Path) -> OutcomeTable:
    """`collect` against a graph without a version, over HTTP, with every signal; the last tier is right mostly."""
    from serve_graph.cli.client.collect import collect_outcomes

    ingress = ingress_of(config, ServedVersion.of(Served(None, None, "none"), config))
    transport = httpx.ASGITransport(app=ingress.__serve_build_asgi_app__(), client=("127.0.0.1", 1))
    asked = asked_by_tier(config, EVERY)
    client = httpx.AsyncClient(transport=transport)
    try:
        await collect_outcomes(
            "http://graph", config.tier_names, [task(prompt) for prompt in prompts], out, concurrency=8,
            binds=signal_binds(config, asked), http_client=client, signals=asked,
        )  # fmt: skip
    finally:
        await closed(ingress)
    return read_outcomes(out, config.tier_names)


@dataclass(frozen=True)
class World:
    """What the tests share: a configuration, what `collect` wrote under it, and the versions made of that."""

    config: GraphConfig
    table: OutcomeTable
    out: Path
    versions: dict[Any, RouterVersion] = field(default_factory=dict)

    def splits(self) -> LabelledSplits:
        table = self.table
        dear = [float(question_draw(f"dear {prompt}") < 0.97) for prompt in table.prompts.texts]
        grades = {**table.grades, "frontier": table.grades["cheap"] * 0 + dear}
        return split_outcomes(replace(table, grades=grades), self.config.tier_names, 0)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("asked")
    config, out = graph(folder / "state"), folder / "outcomes.parquet"
    return World(config, asyncio.run(collected(config, PROMPTS, out)), out)


def certified(world: World, **settings: Any) -> RouterVersion:
    """A version by these settings, made once for all tests."""
    wanted = tuple(sorted(settings.items()))
    if wanted not in world.versions:
        world.versions[wanted] = _certified(world, **settings)
    return world.versions[wanted]


def _certified(world: World, **settings: Any) -> RouterVersion:
    made = replace(settings_of(world.config), abstain_share=0.0, **{"router": "length", **settings})
    splits = world.splits()
    if made.router == "asked-first":
        splits = splits.with_embeddings(Encoder())
    return certify_candidate(fit_candidate(splits, made, Encoder()), splits, made, NOW).version


async def serving(world: World, version: RouterVersion, folder: Path) -> IngressDeployment:
    version.save(folder)
    loaded = RouterVersion.load(folder, "router/1")
    check_certificate(loaded, world.config, NOW)
    config = world.config.model_copy(update={"state_folder": folder.with_name(f"{folder.name}-state")})
    return ingress_of(config, ServedVersion.of(Served(loaded, folder, "certified"), config))


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


SAMPLED = {"self_verification": {"samples": 4, "max_tokens": 12}}


@pytest.fixture(scope="module")
def sampled_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("sampled")
    config, out = graph(folder / "state", signals=SAMPLED), folder / "outcomes.parquet"
    return World(config, asyncio.run(collected(config, PROMPTS, out)), out)


@pytest.mark.parametrize("stream", [False, True])
async def test_sampled_self_verification_is_served_with_as_many_calls_on_the_bill(
    sampled_world: World, tmp_path: Path, stream: bool
) -> None:
    version = certified(sampled_world, verifier="self-verification")
    assert version.asked_of("cheap") == ("self_verification",)
    ingress = await serving(sampled_world, version, tmp_path / "version")
    try:
        request, facts = await tried(ingress, stream=stream)
    finally:
        await closed(ingress)
    assert facts["outcome"] in ("accepted", "escalated")
    lines = [line for line in request.state.overhead if line.what == "self_verification"]
    assert [line.tier for line in lines] == ["cheap"] * 4
    assert all(line.usage is not None and line.usage.completion_tokens == 5 for line in lines), "five words each"
    assert all(line.cost_usd > 0 for line in lines)
    at = sampled_world.table.prompts.texts.index(request.query.text)
    recorded = sampled_world.table.answers_of("cheap").signals["self_verification"][at]
    assert request.state.signals["self_verification"] == pytest.approx(recorded)
    assert recorded in [(right + 0.5) / 5 for right in range(5)]


@pytest.mark.parametrize("stream", [False, True])
async def test_one_verdict_that_is_late_leaves_the_signal_out(
    sampled_world: World, tmp_path: Path, stream: bool
) -> None:
    hurried = sampled_world.config.model_copy(
        update={"signals": sampled_world.config.signals.model_copy(update={"timeout_s": 1e-6})}
    )
    version = certified(sampled_world, verifier="self-verification")
    ingress = await serving(replace(sampled_world, config=hurried), version, tmp_path / "version")
    try:
        request, facts = await tried(ingress, stream=stream)
    finally:
        await closed(ingress)
    assert (facts["outcome"], facts["tier"]) == ("escalated", "frontier")
    assert request.state.verdict is not None
    assert request.state.verdict.reason == "not judged: no self_verification"
    assert not request.state.verdict.promised


def test_a_version_of_one_form_of_self_verification_is_not_served_with_another(
    world: World, sampled_world: World
) -> None:
    version = certified(sampled_world, verifier="self-verification")
    check_certificate(version, sampled_world.config, NOW)
    for other in (world.config, graph(Path("x"), signals={"self_verification": {"samples": 5, "max_tokens": 12}})):
        with pytest.raises(CertificateError, match=r"signal\.self_verification changed"):
            check_certificate(version, other, NOW)
        assert "signal.self_verification" in differing(collected_binds(sampled_world.out) or {}, other, version.asked)
    with pytest.raises(CertificateError, match=r"signal\.self_verification changed"):
        check_certificate(certified(world, verifier="self-verification"), sampled_world.config, NOW)


def test_a_tier_without_logprobs_is_asked_for_verdicts_in_words(world: World) -> None:
    silent = hosted_without_logprobs()
    tiers = [silent, world.config.tiers[1].model_dump()]
    with pytest.raises(
        ServeGraphError, match=r"self_verification is asked of tier 'cheap', .*self_verification\.samples"
    ):
        asked_by_tier(GraphConfig.model_validate({"tiers": tiers}), ["self_verification"])
    config = GraphConfig.model_validate({"tiers": tiers, "signals": SAMPLED})
    assert asked_by_tier(config, ["self_verification"]) == {"cheap": ("self_verification",)}


def test_a_try_counts_every_sampled_verdict_in_break_even(sampled_world: World) -> None:
    now = {tier: prices.at(NOW) for tier, prices in price_lists(sampled_world.config).items()}
    version = certified(sampled_world, verifier="self-verification")
    asking = settings_of(sampled_world.config).asking
    foreseen = signal_costs(sampled_world.table, "cheap", "frontier", ("self_verification",), now, asking)
    assert asking.verdicts == 4
    assert asked_usd(version, sampled_world.config, now) == pytest.approx(foreseen.mean(), rel=0.1)
    once = signal_costs(
        sampled_world.table, "cheap", "frontier", ("self_verification",), now, replace(asking, verdicts=0)
    )
    assert foreseen.mean() > 4 * once.mean()


async def tried(ingress: IngressDeployment, *, stream: bool = False) -> tuple[Request, dict[str, Any]]:
    """The first request whose cheap answer was tried, and what its reply says of it."""
    for prompt in PROMPTS:
        request = ingress.service.open(Query.from_prompt(prompt), "auto", stream)
        if stream:
            facts = [chunk async for chunk in ingress.service.stream(request)][-1]["serve_graph"]
        else:
            facts = (await ingress.service.answer(request))["serve_graph"]
        if facts["outcome"] != "routed":
            return request, facts
    raise AssertionError("nothing was tried")


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
    assert (facts["outcome"], facts["tier"]) == ("escalated", "frontier")
    assert request.state.verdict is not None
    assert request.state.verdict.reason == "not judged: no p_true"
    assert not request.state.verdict.promised
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
    assert (facts["outcome"], facts["tier"]) == ("escalated", "frontier")
    assert request.state.verdict is not None
    assert request.state.verdict.reason == "not judged: no reward:critic"
    assert not request.state.verdict.promised
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


@pytest.mark.parametrize("router", ["p-yes", "asked-first"])
async def test_a_router_asks_first_and_every_decision_pays_for_it(world: World, tmp_path: Path, router: str) -> None:
    version = certified(world, router=router, signals=("p_yes",), pattern="pre-route")
    assert (version.asked_first, version.asked_of("cheap")) == (("p_yes",), ())
    assert version.certificate is not None
    assert "signal.p_yes" in version.certificate.binds
    ingress, outcomes = await serving(world, version, tmp_path / "version"), set()
    try:
        for prompt in PROMPTS[:12]:
            request = ingress.service.open(Query.from_prompt(prompt, p_yes="1.0"), "auto", False)
            outcomes.add((await ingress.service.answer(request))["serve_graph"]["outcome"])
            state, at = request.state, world.table.prompts.texts.index(prompt)
            [line] = [line for line in state.overhead if line.what == "p_yes"]
            assert (line.tier, line.cost_usd > 0) == ("cheap", True)
            assert state.signals["p_yes"] == pytest.approx(world.table.prompts.signals["p_yes"][at])
            assert request.cost_usd == sum((line.cost_usd for line in (*state.calls, *state.overhead)), Decimal(0))
    finally:
        await closed(ingress)
    now = {tier: prices.at(NOW) for tier, prices in price_lists(world.config).items()}
    found, usd = break_even_of(version, world.config, NOW), asked_first_usd(version, world.config, now)
    assert found is not None
    assert usd > 0
    assert found.overhead_usd == pytest.approx(usd * found.tries.rows / found.tries.tried)
    foreseen = first_costs(world.table, "cheap", ("p_yes",), now, settings_of(world.config).asking)
    assert usd == pytest.approx(foreseen.mean(), rel=0.1)
    assert {"routed"} == outcomes


@pytest.mark.parametrize("stream", [False, True])
async def test_a_router_that_was_not_told_leaves_the_request_to_the_last_tier(
    world: World, tmp_path: Path, stream: bool
) -> None:
    """A label of that name that a caller sends stands for nothing."""
    hurried = world.config.model_copy(update={"signals": SignalsConfig(timeout_s=1e-6)})
    version = certified(world, router="p-yes", pattern="pre-route")
    ingress = await serving(replace(world, config=hurried), version, tmp_path / "version")
    try:
        request = ingress.service.open(Query.from_prompt(PROMPTS[0], p_yes="1.0"), "auto", stream)
        if stream:
            facts = [chunk async for chunk in ingress.service.stream(request)][-1]["serve_graph"]
        else:
            facts = (await ingress.service.answer(request))["serve_graph"]
    finally:
        await closed(ingress)
    assert (facts["tier"], facts["outcome"]) == ("frontier", "routed")
    decision = request.state.decision
    assert decision is not None
    assert (decision.promised, decision.layer) == (False, "coverage")
    assert "cheap did not say p_yes" in decision.reason
    assert any(note.startswith("no p_yes: cheap failed: over") for note in request.state.notes)


def test_auto_asks_first_where_it_pays_and_only_there(world: World) -> None:
    said: list[str] = []
    settings = replace(settings_of(world.config), signals=("p_yes",), verifier="logprob")
    splits = world.splits().with_embeddings(Encoder())
    found = fit_candidate(splits, settings, Encoder(), said.append).version
    assert any("p_yes before a tier is chosen save $" in line for line in said), said
    assert found.asked_first == ("p_yes",), said
    dear = replace(settings.prices["cheap"], input_usd_per_mtok=settings.prices["cheap"].input_usd_per_mtok * 40)
    tight = replace(settings, prices={**settings.prices, "cheap": dear})
    assert fit_candidate(splits, tight, Encoder()).version.asked_first == ()
    without = replace(settings, signals=())
    assert fit_candidate(splits, without, Encoder()).version.asked_first == ()


def test_a_named_router_that_asks_needs_a_table_that_holds_it(world: World) -> None:
    bare = replace(world.table, prompts=replace(world.table.prompts, signals={}))
    settings = replace(settings_of(world.config), router="p-yes", verifier="logprob")
    with pytest.raises(DataError, match=r"router p-yes: the outcomes hold no p_yes .* --signals p_yes"):
        fit_candidate(replace(world, table=bare).splits(), settings, Encoder())


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
