"""Routers that ask before a tier is chosen: trained, certified, served, billed."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from router_models.data.embeddings.encoder import Encoder
from router_models.errors import DataError
from router_models.estimators.signal_costs import first_costs
from router_models.training.fit import fit_candidate
from router_models.types import Query
from serve_graph.config.judge import SignalsConfig
from serve_graph.policy.bindings import (
    price_lists,
)
from serve_graph.policy.pays import asked_first_usd, break_even_of
from serve_graph.policy.serving_version import settings_of
from tests.contract.signals.asked_world import NOW, PROMPTS, World, certified, closed, serving


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
