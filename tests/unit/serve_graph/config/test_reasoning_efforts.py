"""One hosted model as two tiers, which think for longer and for less: the page's own configuration."""

import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from router_models.types import Query, Usage
from router_models.types.conditions import conditions_of
from router_models.types.coverage import Coverage
from serve_graph.cascade.fakes import FakeHandle
from serve_graph.config.graph import GraphConfig
from serve_graph.gateway.constraints import routing_context_for
from serve_graph.policy.bindings import tier_binds, tier_prices
from serve_graph.policy.served_policy import ServedPolicy
from serve_graph.policy.validity import CertificateStatus

PAGE = Path(__file__).parents[4] / "docs/guides/tiers.md"
QUERY = Query.from_prompt("prove it")


def graph(change: Mapping[str, Any] | None = None) -> GraphConfig:
    section = PAGE.read_text().partition("## One model, two reasoning efforts")[2]
    found = re.search(r"```yaml\n(.*?)```", section, re.DOTALL)
    assert found is not None
    tiers = yaml.safe_load(found[1])
    tiers[0] |= change or {}
    return GraphConfig.model_validate({"tiers": tiers, "policy": {"safe_tier": "deep"}})


def test_the_tiers_differ_in_effort_alone_and_a_certificate_is_bound_to_it() -> None:
    config = graph()
    cheap, last = config.tiers
    assert (cheap.decoding, last.decoding) == ({"reasoning_effort": "low"}, {"reasoning_effort": "high"})
    binds = tier_binds(config)
    assert {what for what in ("weights", "engine", "decoding") if binds[f"quick.{what}"] != binds[f"deep.{what}"]} == {
        "decoding"
    }
    other = tier_binds(graph({"decoding": {"reasoning_effort": "minimal"}}))
    assert {name for name in binds if binds[name] != other[name]} == {"quick.decoding"}


def test_the_price_of_a_token_is_the_same_and_thinking_is_billed_as_answer() -> None:
    prices = tier_prices(graph())
    assert prices["quick"] == prices["deep"]
    assert prices["deep"].cost(Usage(100, 2000)) == Decimal("0.01021")
    assert prices["quick"].cost(Usage(100, 300)) == Decimal("0.00171")


@pytest.mark.parametrize(("own", "sent"), [({}, ("low", "high")), ({"reasoning_effort": "medium"}, ("medium",) * 2)])
async def test_each_tier_is_asked_with_its_effort_unless_the_request_names_one(
    own: dict[str, Any], sent: tuple[str, str]
) -> None:
    from serve_graph.cluster.tier_client import HandleEngine

    reply = {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 1}}
    found = []
    for tier in graph().tiers:
        handle = FakeHandle(reply)
        await HandleEngine(handle, tier).generate(Query(QUERY.messages, {}, own))  # type: ignore[arg-type]
        found.append(handle.asked[0][0]["reasoning_effort"])
    assert tuple(found) == sent


def test_an_effort_of_the_requests_own_is_another_condition_than_was_certified() -> None:
    """The router has seen answers at the tiers' own efforts: what one effort makes of both tiers, no row has shown."""
    config = graph()
    served = ServedPolicy.of(None, "none", "nothing", config)
    sampling = routing_context_for(config, served, CertificateStatus()).sampling
    coverage = Coverage()
    assert coverage.uncovered(conditions_of(QUERY), defaults=sampling) is None
    asked = Query(QUERY.messages, {}, {"reasoning_effort": "low"})
    found = coverage.uncovered(conditions_of(asked), defaults=sampling)
    assert found is not None
    assert found.reason == "decoding"
