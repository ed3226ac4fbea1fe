"""What a call is made for goes along with it to the replica that is called, and nowhere where nobody asks."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from router_models.types import Decision, Query
from serve_graph.cascade.fakes import FakeHandle
from serve_graph.cluster.echo_deployment import EchoDeployment
from serve_graph.cluster.policy_client import HandlePolicy
from serve_graph.cluster.tier_client import HandleEngine
from serve_graph.config.prices import PriceConfig
from serve_graph.config.tiers.kinds import EchoTierConfig
from serve_graph.engines.telemetry.call_context import CALL, CallContext, carried, trace_headers

PRICE = PriceConfig(input_usd_per_mtok=Decimal(1), output_usd_per_mtok=Decimal(2))
TIER = EchoTierConfig(name="cheap", engine="echo", price=PRICE)
MINE = CallContext("dec-1", "00-" + "a" * 32 + "-" + "b" * 16 + "-01", "vendor=1")
QUERY = Query.from_prompt("hi")


@pytest.fixture(autouse=True)
def nobody() -> Iterator[None]:
    token = CALL.set(None)
    yield
    CALL.reset(token)


async def test_nothing_is_carried_where_nobody_asks() -> None:
    handle: Any = FakeHandle({"choices": [], "usage": {}})
    with pytest.raises(Exception, match="no completion"):
        await HandleEngine(handle, TIER).generate(QUERY)
    assert handle.carried == carried() == {}


async def test_router_and_verifier_are_told() -> None:
    CALL.set(MINE)
    handle: Any = FakeHandle(Decision("cheap", "why"))
    await HandlePolicy(handle, "router", "v/1", 2.0).decide(QUERY)
    assert handle.carried == {"carried": MINE}


async def test_a_replica_takes_over_what_it_is_told() -> None:
    await EchoDeployment(TIER).generate({"model": "x", "messages": [{"role": "user", "content": "hi"}]}, carried=MINE)
    assert CALL.get() == MINE


def test_headers_are_those_of_trace_context() -> None:
    assert trace_headers() == {}
    CALL.set(MINE)
    assert trace_headers() == {"traceparent": MINE.traceparent, "tracestate": "vendor=1"}
    assert CallContext("dec-1", tracestate="vendor=1").headers() == {}
