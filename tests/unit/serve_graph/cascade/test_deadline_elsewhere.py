"""The deadline where it meets HTTP, request options, embeddings and replicas: in real time, a little of it."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from router_models.types import Query
from serve_graph.access.caller import Caller
from serve_graph.cascade.deadline import Deadline
from serve_graph.cascade.fakes import FakeEngine, ListSink, fake_context
from serve_graph.errors import (
    DeadlineError,
    EngineError,
    EngineTimeoutError,
    SaturatedError,
)
from serve_graph.gateway.embeddings import answer_embeddings, open_embeddings
from serve_graph.gateway.handler import Service
from serve_graph.gateway.options import resolve_options


async def test_timeout_of_the_works_own_is_not_taken_for_the_deadline() -> None:
    async def late() -> None:
        raise TimeoutError("of its own")

    with pytest.raises(TimeoutError, match="of its own"):
        await Deadline(60.0, 0.0, lambda: 0.0).kept(late())


def test_deadline_in_metadata_is_a_wish_too() -> None:
    assert resolve_options(None, {"serve_graph.deadline_s": "1.5"}, Caller(), None, "frontier").deadline_s == 1.5


async def test_over_http_it_is_a_504_in_openais_shape(endpoint: Callable[..., Any]) -> None:
    at = endpoint(cheap=FakeEngine(slow_s=30.0), frontier=FakeEngine(slow_s=30.0))
    reply = await at.chat(serve_graph={"deadline_s": 0.05})
    assert reply.status_code == 504
    assert reply.json()["error"]["type"] == "timeout_error"
    assert reply.headers["retry-after"] == "1"
    assert at.record.status == 504


async def test_embeddings_have_the_deadline_too() -> None:
    class Asleep:
        async def embed(self, body: Any) -> Any:
            await asyncio.sleep(3600)

    context = replace(fake_context(), embedders={"cheap": Asleep()})
    service = Service(context, ListSink(), deadline_s=0.01)
    with pytest.raises(DeadlineError):
        await answer_embeddings(service, open_embeddings(service, Query.from_prompt("a"), "auto"), {"input": "a"})


@pytest.fixture
def handle_engine() -> Callable[..., Any]:
    """A HandleEngine over a replica that never answers; importing it imports ray.serve."""
    from serve_graph.cluster.tier_client import HandleEngine
    from serve_graph.config.tiers.kinds import HostedTierConfig

    class Replica:
        told: tuple[float, ...] = ()
        cancelled = 0

        def __getattr__(self, name: str) -> "Replica":
            return self

        def options(self, **_: Any) -> "Replica":
            return self

        def remote(self, _: Any, *told: float) -> "Replica":
            self.told = told
            return self

        def __await__(self) -> Any:
            return asyncio.sleep(3600).__await__()

        async def __anext__(self) -> Any:
            await asyncio.sleep(3600)

        def cancel(self) -> None:
            self.cancelled += 1

    def make(**fields: Any) -> tuple[Any, Any]:
        price = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}
        values = {"engine": "openai", "name": "far", "price": price, "model": "m", "timeout_s": 30.0} | fields
        replica = Replica()
        return HandleEngine(replica, HostedTierConfig.model_validate(values)), replica  # type: ignore[arg-type]

    return make


async def test_hosted_tier_is_told_what_is_left_and_given_up_by_then(handle_engine: Callable[..., Any]) -> None:
    engine, replica = handle_engine()
    engine.grace_s = 0.0
    with pytest.raises(EngineTimeoutError, match=r"0\.5 s"):
        await engine.generate(Query.from_prompt("a"), 0.5)
    assert 0 < replica.told[0] <= 0.5
    assert replica.cancelled == 1
    with pytest.raises(EngineError):
        async for _ in engine.stream(Query.from_prompt("a"), 0.5):
            pass
    assert 0 < replica.told[0] <= 0.5


async def test_gate_refuses_at_once_who_would_wait_past_what_is_left(handle_engine: Callable[..., Any]) -> None:
    engine, _ = handle_engine(admission={"max_in_flight": 1, "max_queued": 10})
    engine.gate.service_s = 0.5
    async with engine.gate.place(30.0):
        with pytest.raises(SaturatedError, match=r"longer than 0\.3 s"):
            await engine.generate(Query.from_prompt("a"), 0.3)
