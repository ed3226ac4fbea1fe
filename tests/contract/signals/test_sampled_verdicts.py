"""Self-verification by several sampled verdicts: served, billed, and bound to its form."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from router_models.errors import CertificateError
from router_models.estimators.signal_costs import signal_costs
from serve_graph.policy.bindings import (
    check_certificate,
    collected_binds,
    differing,
    price_lists,
)
from serve_graph.policy.pays import asked_usd
from serve_graph.policy.serving_version import settings_of
from tests.contract.signals.asked_world import NOW, World, certified, check_escalated, closed, graph, serving, tried


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
    check_escalated(request, facts, "self_verification")


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
