"""The handles of tiers as engines, over handles that need no cluster. Importing them imports ray.serve: inside."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from router_models.types import Attempt, Query
from serve_graph.cascade.fakes import FakeHandle
from serve_graph.config.prices import PriceConfig
from serve_graph.config.tiers.kinds import EchoTierConfig, HostedTierConfig
from serve_graph.errors import (
    EngineError,
    EngineRequestError,
    EngineTimeoutError,
    SaturatedError,
    TierSetupError,
)
from tests.fixtures.made_up_time import run

QUERY = Query.from_prompt("why?")
PRICE = PriceConfig(input_usd_per_mtok=Decimal(1), output_usd_per_mtok=Decimal(2))
REPLY = {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 1}}


@pytest.fixture
def engine() -> Callable[..., Any]:
    from serve_graph.cluster.tier_client import HandleEngine

    def make(handle: FakeHandle, hosted: bool = False, **fields: Any) -> Any:
        common = {"name": "cheap", "price": PRICE, "timeout_s": 30.0, "decoding": {"temperature": 0.0}} | fields
        config = (
            HostedTierConfig(engine="openai", model="m", **common)
            if hosted
            else EchoTierConfig(engine="echo", **common)
        )
        return HandleEngine(handle, config)  # type: ignore[arg-type]

    return make


async def test_engines_reply_becomes_a_completion(engine: Callable[..., Any]) -> None:
    handle = FakeHandle(REPLY)
    completion = await engine(handle).generate(QUERY)
    assert completion.text == "hi"
    [(body,)] = handle.asked
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("cheap", 0.0, 256)
    assert not handle.responses[0].cancelled


def test_engine_that_takes_too_long_is_given_up_and_told_so(engine: Callable[..., Any]) -> None:
    handle = FakeHandle(REPLY, delay_s=3600)
    with pytest.raises(EngineTimeoutError, match=r"took over (30|2\d\.\d) s"):
        run(engine(handle).generate(QUERY))
    assert handle.responses[0].cancelled


async def test_engine_nobody_waits_for_any_more_is_told_so(engine: Callable[..., Any]) -> None:
    handle = FakeHandle(REPLY, delay_s=3600)
    task = asyncio.ensure_future(engine(handle).generate(QUERY))
    while not handle.asked:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert handle.responses[0].cancelled


@pytest.mark.parametrize("error", [RuntimeError("actor died"), ConnectionError("gone"), KeyError("x")], ids=repr)
async def test_whatever_ray_raises_is_an_engine_error(engine: Callable[..., Any], error: Exception) -> None:
    with pytest.raises(EngineError, match="unavailable") as caught:
        await engine(FakeHandle(error)).generate(QUERY)
    assert type(caught.value) is EngineError


WHOLE = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}


@pytest.mark.parametrize(
    "reply",
    [
        {},
        {"choices": []},
        {"choices": [{}]},
        {"choices": None},
        {"choices": [{"message": None}]},
        {"choices": [{"message": {}}]},
        {"choices": [{"message": {"content": {"text": "hi"}}}]},
        {"choices": [{"message": {"content": None, "tool_calls": ["call"]}}]},
        {"choices": [WHOLE, {"index": 1}]},
        {"choices": [WHOLE, {"index": 1, "message": None}]},
        {"choices": [WHOLE, None]},
    ],
    ids=str,
)
async def test_reply_that_is_no_completion_is_an_engine_error(engine: Callable[..., Any], reply: Any) -> None:
    with pytest.raises(EngineError, match="no completion"):
        await engine(FakeHandle(reply)).generate(QUERY)


@pytest.mark.parametrize("tier", ["auto", "cheap"])
async def test_second_choice_without_a_message_is_no_internal_error(
    engine: Callable[..., Any], endpoint: Callable[..., Any], tier: str
) -> None:
    """Another tier answers; where the caller named this one, it is a tier's failure in OpenAI's shape."""
    half = FakeHandle({"choices": [WHOLE, {"index": 1, "finish_reason": "stop"}]})
    made = endpoint()
    made.context.engines["cheap"] = engine(half)
    reply = await made.chat(tier, n=2)
    if tier == "auto":
        assert (reply.status_code, len(reply.json()["choices"]), made.record.outcome) == (200, 2, "fallback")
    else:
        error = reply.json()["error"]
        assert (reply.status_code, error["type"]) == (503, "service_unavailable_error")
        assert "no completion" in error["message"]


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        (400, "bad", EngineRequestError),
        (422, "bad", EngineRequestError),
        (400, "maximum context length is 9", EngineRequestError),
        (401, "bad key", TierSetupError),
        (403, "no", TierSetupError),
        (404, "no such model", TierSetupError),
        (408, "slow", EngineTimeoutError),
        (429, "later", SaturatedError),
        (500, "oops", EngineError),
        (504, "late", EngineTimeoutError),
        (None, "oops", EngineError),
        ("rate_limit_exceeded", "later", SaturatedError),
        ("400", "bad", EngineRequestError),
    ],
)
async def test_error_reply_is_the_requests_fault_or_the_tiers(
    engine: Callable[..., Any], code: Any, message: str, kind: type[EngineError]
) -> None:
    reply = {"error": {"message": message, "code": code}}
    with pytest.raises(kind, match=message) as caught:
        await engine(FakeHandle(reply)).generate(QUERY)
    assert type(caught.value) is kind
    assert message not in caught.value.recordable, "an engine's own words may quote the prompt"
    if "context length" in message:
        assert caught.value.code == "context_length_exceeded"  # type: ignore[attr-defined]
    with pytest.raises(kind):
        await anext(engine(FakeHandle([reply])).stream(QUERY))


async def test_stream_passes_pieces_on_and_ends(engine: Callable[..., Any]) -> None:
    handle = FakeHandle([{"a": 1}, {"b": 2}])
    assert [piece async for piece in engine(handle).stream(QUERY)] == [{"a": 1}, {"b": 2}]
    assert not handle.responses[0].cancelled


async def test_chunks_that_come_together_are_passed_on_one_by_one_until_one_is_an_error(
    engine: Callable[..., Any],
) -> None:
    handle = FakeHandle([[{"a": 1}, {"b": 2}], {"c": 3}, [{"d": 4}, {"error": {"message": "broke", "code": 500}}]])
    pieces = engine(handle).stream(QUERY)
    assert [await anext(pieces) for _ in range(4)] == [{"a": 1}, {"b": 2}, {"c": 3}, {"d": 4}]
    with pytest.raises(EngineError, match="broke"):
        await anext(pieces)
    assert handle.responses[0].cancelled
    with pytest.raises(EngineError, match="no object"):
        await anext(engine(FakeHandle([["odd"]])).stream(QUERY))


@pytest.mark.parametrize("hosted", [False, True])
async def test_usage_of_a_cut_stream_is_asked_of_engines_that_can_tell(
    engine: Callable[..., Any], hosted: bool
) -> None:
    handle = FakeHandle([{"a": 1}])
    await anext(engine(handle, hosted).stream(QUERY))
    options = handle.asked[0][0]["stream_options"]
    assert options["include_usage"]
    assert ("continuous_usage_stats" in options) is not hosted


@pytest.mark.parametrize(
    ("last", "kind"), [("silence", EngineTimeoutError), (RuntimeError("died"), EngineError)], ids=["silent", "dead"]
)
def test_stream_that_fails_midway_is_given_up(engine: Callable[..., Any], last: Any, kind: type[Exception]) -> None:
    handle = FakeHandle([{"a": 1}, last])

    async def read() -> None:
        pieces = engine(handle).stream(QUERY)
        assert await anext(pieces) == {"a": 1}
        with pytest.raises(kind):
            await anext(pieces)

    run(read())
    assert handle.responses[0].cancelled


async def test_stream_that_is_closed_ends_the_engines_call(engine: Callable[..., Any]) -> None:
    handle = FakeHandle([{"a": 1}, {"b": 2}])
    pieces = engine(handle).stream(QUERY)
    await anext(pieces)
    await pieces.aclose()
    assert handle.responses[0].cancelled


async def test_full_queue_of_the_replicas_is_saturation(engine: Callable[..., Any]) -> None:
    from ray.serve.exceptions import BackPressureError

    full = BackPressureError(num_queued_requests=9, max_queued_requests=9)
    with pytest.raises(SaturatedError, match="take no more"):
        await engine(FakeHandle(full)).generate(QUERY)
    with pytest.raises(SaturatedError, match="take no more"):
        await anext(engine(FakeHandle([full])).stream(QUERY))


async def test_request_beyond_the_tiers_bounds_is_refused_and_later_ones_are_served(
    engine: Callable[..., Any],
) -> None:
    handle = FakeHandle(REPLY, delay_s=0.03)
    made = engine(handle, admission={"max_in_flight": 1, "max_queued": 1})
    replies = await asyncio.gather(*(made.generate(QUERY) for _ in range(4)), return_exceptions=True)
    assert [type(reply).__name__ for reply in replies] == ["Completion"] * 2 + ["SaturatedError"] * 2
    assert len(handle.asked) == 2
    assert (await made.generate(QUERY)).text == "hi"


async def test_stream_holds_its_place_until_it_is_closed(engine: Callable[..., Any]) -> None:
    made = engine(FakeHandle([{"a": 1}, {"b": 2}]), admission={"max_in_flight": 1, "max_queued": 0})
    pieces = made.stream(QUERY)
    await anext(pieces)
    with pytest.raises(SaturatedError):
        await anext(made.stream(QUERY))
    await pieces.aclose()
    assert await anext(made.stream(QUERY)) == {"a": 1}


def test_a_tiers_bounds_follow_from_its_scaling_where_they_are_not_given() -> None:
    from serve_graph.cluster.tier_client import admission_for

    scaling = {"max_ongoing_requests": 8, "max_replicas": 3}
    tier = EchoTierConfig(engine="echo", name="cheap", price=PRICE, scaling=scaling)  # type: ignore[arg-type]
    assert (admission_for(tier).max_in_flight, admission_for(tier).max_queued) == (24, 24)


async def test_hosted_tier_is_told_the_time_that_is_left(engine: Callable[..., Any]) -> None:
    handle = FakeHandle(REPLY)
    await engine(handle, hosted=True, timeout_s=3600.0).generate(QUERY)
    [(_, left_s)] = handle.asked
    assert left_s == pytest.approx(3600.0, abs=60)


async def test_a_hosted_tier_is_told_where_nobody_waits_for_its_answer(engine: Callable[..., Any]) -> None:
    handle = FakeHandle(REPLY)
    asked = engine(handle, hosted=True)
    beside = asked.beside()
    assert beside.gate is asked.gate, "its places are the same"
    await beside.generate(QUERY)
    await asked.generate(QUERY)
    assert [len(arguments) for arguments in handle.asked] == [3, 2]


async def test_calls_that_a_tier_made_travel_with_its_answer_and_its_error(engine: Callable[..., Any]) -> None:
    calls = (Attempt("east", 503, 0.1), Attempt("west", 200, 0.2))
    completion = await engine(FakeHandle({**REPLY, "attempts": calls})).generate(QUERY)
    assert completion.attempts == calls
    with pytest.raises(SaturatedError) as caught:
        await engine(
            FakeHandle({"error": {"message": "later", "code": 429, "retry_after_s": 3.5}, "attempts": calls[:1]})
        ).generate(QUERY)
    assert (caught.value.attempts, caught.value.retry_after_s) == (calls[:1], 3.5)


async def test_embeddings_go_through_the_handle(engine: Callable[..., Any]) -> None:
    handle = FakeHandle({"object": "list", "data": [{"embedding": [0.5]}], "usage": {"prompt_tokens": 1}})
    reply = await engine(handle).embed({"input": "a"})
    assert reply["data"] == [{"embedding": [0.5]}]
    assert handle.asked == [({"input": "a", "model": "cheap"},)]


@pytest.mark.parametrize("reply", [{"error": {"message": "no", "code": 500}}, {"object": "list"}])
async def test_reply_without_embeddings_is_an_engine_error(engine: Callable[..., Any], reply: Any) -> None:
    with pytest.raises(EngineError):
        await engine(FakeHandle(reply)).embed({"input": "a"})


@pytest.mark.parametrize("code", [429, 500, 504])
async def test_what_an_engine_says_reaches_the_caller_and_no_record(engine: Callable[..., Any], code: int) -> None:
    """An error may quote the prompt, and prompts are not kept."""
    from serve_graph.cascade.fakes import ListSink, fake_context
    from serve_graph.gateway.handler import Service

    cheap = engine(FakeHandle({"error": {"message": "cannot answer 'my secret'", "code": code}}))
    context, sink = fake_context(), ListSink()
    service = Service(replace(context, engines={**context.engines, "cheap": cheap}), sink)
    await service.answer(service.open(Query.from_prompt("my secret"), "auto", False))
    [record] = sink.records
    assert record.outcome == "fallback"
    assert f"cheap failed: its engine answered {code}" in record.route_reason
    assert "secret" not in str(record)
    with pytest.raises(EngineError, match="my secret"):
        await cheap.generate(QUERY)


async def test_a_key_finds_only_its_own_prompts_in_the_cache() -> None:
    from serve_graph.access.caller import CALLER, Caller
    from serve_graph.cluster.tier_client import HandleEngine
    from serve_graph.config.access import KeyConfig
    from serve_graph.config.tiers.kinds import VllmTierConfig

    async def salt(name: str | None, **fields: Any) -> str | None:
        weights = {"hub": "a/b"}
        config = VllmTierConfig.model_validate(
            {"engine": "vllm", "name": "cheap", "price": PRICE, "weights": weights, **fields}
        )
        token = CALLER.set(Caller(None if name is None else KeyConfig(name=name, sha256=name * 64)))
        handle = FakeHandle(REPLY)
        await HandleEngine(handle, config).generate(replace(QUERY, parameters={"cache_salt": "mine"} if name else {}))  # type: ignore[arg-type]
        CALLER.reset(token)
        [(body,)] = handle.asked
        found: str | None = body.get("cache_salt")
        return found

    salts = [await salt(name) for name in "abab"]
    assert salts[:2] == salts[2:]
    assert len({*salts, "mine", None}) == 4
    assert await salt(None) is None
    assert await salt("a", prefix_cache="shared") == "mine"
