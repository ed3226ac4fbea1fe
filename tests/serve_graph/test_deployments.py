"""The handle adapters, over handles that need no cluster. Importing them imports ray.serve: inside, never above."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any, ClassVar

import pytest

from router_models.policy import Policy
from router_models.types import Action, Attempt, Completion, Decision, OperatingPoint, Query, Verdict
from serve_graph.errors import (
    EngineError,
    EngineRequestError,
    EngineTimeoutError,
    PolicyUnavailableError,
    SaturatedError,
)
from serve_graph.price_section import PriceConfig
from serve_graph.tiers import EchoTierConfig, HostedTierConfig, VllmTierConfig

QUERY = Query.from_prompt("why?")
PRICE = PriceConfig(input_usd_per_mtok=Decimal(1), output_usd_per_mtok=Decimal(2))
REPLY = {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 1}}


class Response:
    """What a Ray handle's method returns: awaitable or iterable, and cancellable."""

    def __init__(self, reply: Any, delay_s: float) -> None:
        self.reply = reply
        self.delay_s = delay_s
        self.cancelled = False
        self.pieces = iter(reply if isinstance(reply, list) else [])

    def __await__(self) -> Any:
        return self._wait().__await__()

    async def _wait(self) -> Any:
        await asyncio.sleep(self.delay_s)
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        for piece in self.pieces:
            if piece == "silence":
                await asyncio.sleep(3600)
            if isinstance(piece, Exception):
                raise piece
            return piece
        raise StopAsyncIteration

    def cancel(self) -> None:
        self.cancelled = True


class Handle:
    """A deployment handle: every method answers with `reply`."""

    def __init__(self, reply: Any, delay_s: float = 0.0) -> None:
        self.reply = reply
        self.delay_s = delay_s
        self.asked: list[tuple[Any, ...]] = []
        self.responses: list[Response] = []

    def options(self, **_: Any) -> "Handle":
        return self

    def __getattr__(self, name: str) -> "Handle":
        return self

    def remote(self, *args: Any) -> Response:
        self.asked.append(args)
        self.responses.append(Response(self.reply, self.delay_s))
        return self.responses[-1]


@pytest.fixture
def engine() -> Callable[..., Any]:
    from serve_graph.deployments import HandleEngine

    def make(handle: Handle, hosted: bool = False, **fields: Any) -> Any:
        common = {"name": "cheap", "price": PRICE, "timeout_s": 0.1, "decoding": {"temperature": 0.0}} | fields
        config = (
            HostedTierConfig(engine="openai", model="m", **common)
            if hosted
            else EchoTierConfig(engine="echo", **common)
        )
        return HandleEngine(handle, config)  # type: ignore[arg-type]

    return make


@pytest.fixture
def policy() -> Callable[..., Any]:
    from serve_graph.policy_handles import HandlePolicy

    def make(handle: Handle, abstain_below: float | None = None) -> Any:
        point = OperatingPoint(0.5, 0.5, abstain_below)
        served = Policy(("cheap", "frontier"), {"cheap": point, "frontier": point})
        return HandlePolicy(handle, "router", served, timeout_s=0.05, rest_s=0.2)  # type: ignore[arg-type]

    return make


async def test_engines_reply_becomes_a_completion(engine: Callable[..., Any]) -> None:
    handle = Handle(REPLY)
    completion = await engine(handle).generate(QUERY)
    assert completion.text == "hi"
    [(body,)] = handle.asked
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("cheap", 0.0, 256)
    assert not handle.responses[0].cancelled


async def test_engine_that_takes_too_long_is_given_up_and_told_so(engine: Callable[..., Any]) -> None:
    handle = Handle(REPLY, delay_s=30)
    with pytest.raises(EngineTimeoutError, match=r"took over 0\.1 s"):
        await engine(handle).generate(QUERY)
    assert handle.responses[0].cancelled


async def test_engine_nobody_waits_for_any_more_is_told_so(engine: Callable[..., Any]) -> None:
    handle = Handle(REPLY, delay_s=30)
    task = asyncio.ensure_future(engine(handle, timeout_s=30.0).generate(QUERY))
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert handle.responses[0].cancelled


@pytest.mark.parametrize("error", [RuntimeError("actor died"), ConnectionError("gone"), KeyError("x")], ids=repr)
async def test_whatever_ray_raises_is_an_engine_error(engine: Callable[..., Any], error: Exception) -> None:
    with pytest.raises(EngineError, match="unavailable") as caught:
        await engine(Handle(error)).generate(QUERY)
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
        {"choices": [WHOLE], "usage": {"prompt_tokens": float("inf")}},
    ],
    ids=str,
)
async def test_reply_that_is_no_completion_is_an_engine_error(engine: Callable[..., Any], reply: Any) -> None:
    with pytest.raises(EngineError, match="no completion"):
        await engine(Handle(reply)).generate(QUERY)


@pytest.mark.parametrize("tier", ["auto", "cheap"])
async def test_second_choice_without_a_message_is_no_internal_error(
    engine: Callable[..., Any], endpoint: Callable[..., Any], tier: str
) -> None:
    """Another tier answers; where the caller named this one, it is a tier's failure in OpenAI's shape."""
    half = Handle({"choices": [WHOLE, {"index": 1, "finish_reason": "stop"}]})
    made = endpoint()
    made.graph.engines["cheap"] = engine(half)
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
        (401, "bad key", EngineError),
        (403, "no", EngineError),
        (404, "no such model", EngineError),
        (408, "slow", EngineTimeoutError),
        (429, "later", SaturatedError),
        (500, "oops", EngineError),
        (504, "late", EngineTimeoutError),
        (None, "oops", EngineError),
        ("rate_limit_exceeded", "later", EngineError),
        ("400", "bad", EngineRequestError),
    ],
)
async def test_error_reply_is_the_requests_fault_or_the_tiers(
    engine: Callable[..., Any], code: Any, message: str, kind: type[EngineError]
) -> None:
    reply = {"error": {"message": message, "code": code}}
    with pytest.raises(kind, match=message) as caught:
        await engine(Handle(reply)).generate(QUERY)
    assert type(caught.value) is kind
    assert message not in caught.value.recordable, "an engine's own words may quote the prompt"
    if "context length" in message:
        assert caught.value.code == "context_length_exceeded"  # type: ignore[attr-defined]
    with pytest.raises(kind):
        await anext(engine(Handle([reply])).stream(QUERY))


async def test_stream_passes_pieces_on_and_ends(engine: Callable[..., Any]) -> None:
    handle = Handle([{"a": 1}, {"b": 2}])
    assert [piece async for piece in engine(handle).stream(QUERY)] == [{"a": 1}, {"b": 2}]
    assert not handle.responses[0].cancelled


@pytest.mark.parametrize("hosted", [False, True])
async def test_usage_of_a_cut_stream_is_asked_of_engines_that_can_tell(
    engine: Callable[..., Any], hosted: bool
) -> None:
    handle = Handle([{"a": 1}])
    await anext(engine(handle, hosted).stream(QUERY))
    options = handle.asked[0][0]["stream_options"]
    assert options["include_usage"]
    assert ("continuous_usage_stats" in options) is not hosted


@pytest.mark.parametrize(
    ("last", "kind"), [("silence", EngineTimeoutError), (RuntimeError("died"), EngineError)], ids=["silent", "dead"]
)
async def test_stream_that_fails_midway_is_given_up(
    engine: Callable[..., Any], last: Any, kind: type[Exception]
) -> None:
    handle = Handle([{"a": 1}, last])
    pieces = engine(handle).stream(QUERY)
    assert await anext(pieces) == {"a": 1}
    with pytest.raises(kind):
        await anext(pieces)
    assert handle.responses[0].cancelled


async def test_stream_that_is_closed_ends_the_engines_call(engine: Callable[..., Any]) -> None:
    handle = Handle([{"a": 1}, {"b": 2}])
    pieces = engine(handle).stream(QUERY)
    await anext(pieces)
    await pieces.aclose()
    assert handle.responses[0].cancelled


async def test_policys_reply_is_passed_on(policy: Callable[..., Any]) -> None:
    decision, verdict = Decision("cheap", "why"), Verdict(Action.ACCEPTED, "why", 0.9)
    assert await policy(Handle(decision)).decide(QUERY) == decision
    assert await policy(Handle(verdict)).judge(QUERY, Completion("x"), decision) == verdict


async def test_policy_that_does_not_reply_is_not_asked_again_for_a_while(policy: Callable[..., Any]) -> None:
    handle = Handle(Decision("cheap", "why"), delay_s=30)
    asking = policy(handle)
    with pytest.raises(PolicyUnavailableError, match=r"no reply in 0\.05 s"):
        await asking.decide(QUERY)
    handle.delay_s = 0.0
    with pytest.raises(PolicyUnavailableError, match="a moment ago"):
        await asking.decide(QUERY)
    assert len(handle.asked) == 1
    await asyncio.sleep(0.25)
    assert (await asking.decide(QUERY)).tier == "cheap"


async def test_one_querys_own_failure_does_not_keep_others_from_the_policy(policy: Callable[..., Any]) -> None:
    handle = Handle(ValueError("this prompt cannot be scored"))
    asking = policy(handle)
    with pytest.raises(PolicyUnavailableError, match="ValueError"):
        await asking.decide(QUERY)
    handle.reply = Decision("cheap", "why")
    assert (await asking.decide(QUERY)).tier == "cheap"


@pytest.mark.parametrize(("tier", "instead"), [("cheap", Action.ESCALATED), ("frontier", Action.ACCEPTED)])
async def test_forbidden_abstention_becomes_what_it_stands_in_for(
    policy: Callable[..., Any], tier: str, instead: Action
) -> None:
    handle = Handle(Verdict(Action.ABSTAINED, "hopeless", 0.01))
    asked = (QUERY, Completion("x"), Decision(tier, "why"))
    assert (await policy(handle).judge(*asked)).action is instead
    assert (await policy(handle, abstain_below=0.1).judge(*asked)).action is Action.ABSTAINED


async def test_full_queue_of_the_replicas_is_saturation(engine: Callable[..., Any]) -> None:
    from ray.serve.exceptions import BackPressureError

    full = BackPressureError(num_queued_requests=9, max_queued_requests=9)
    with pytest.raises(SaturatedError, match="take no more"):
        await engine(Handle(full)).generate(QUERY)
    with pytest.raises(SaturatedError, match="take no more"):
        await anext(engine(Handle([full])).stream(QUERY))


async def test_request_beyond_the_tiers_bounds_is_refused_and_later_ones_are_served(
    engine: Callable[..., Any],
) -> None:
    handle = Handle(REPLY, delay_s=0.03)
    made = engine(handle, timeout_s=5.0, admission={"max_in_flight": 1, "max_queued": 1})
    replies = await asyncio.gather(*(made.generate(QUERY) for _ in range(4)), return_exceptions=True)
    assert [type(reply).__name__ for reply in replies] == ["Completion"] * 2 + ["SaturatedError"] * 2
    assert len(handle.asked) == 2
    assert (await made.generate(QUERY)).text == "hi"


async def test_stream_holds_its_place_until_it_is_closed(engine: Callable[..., Any]) -> None:
    made = engine(Handle([{"a": 1}, {"b": 2}]), admission={"max_in_flight": 1, "max_queued": 0})
    pieces = made.stream(QUERY)
    await anext(pieces)
    with pytest.raises(SaturatedError):
        await anext(made.stream(QUERY))
    await pieces.aclose()
    assert await anext(made.stream(QUERY)) == {"a": 1}


def test_a_tiers_bounds_follow_from_its_scaling_where_they_are_not_given() -> None:
    from serve_graph.tier_handles import gate_of

    scaling = {"max_ongoing_requests": 8, "max_replicas": 3}
    tier = EchoTierConfig(engine="echo", name="cheap", price=PRICE, scaling=scaling)  # type: ignore[arg-type]
    assert (gate_of(tier).max_in_flight, gate_of(tier).max_queued) == (24, 24)


async def test_hosted_tier_is_told_the_time_that_is_left(engine: Callable[..., Any]) -> None:
    handle = Handle(REPLY)
    await engine(handle, hosted=True, timeout_s=7.0).generate(QUERY)
    [(_, left_s)] = handle.asked
    assert left_s == pytest.approx(7.0, abs=0.1)


async def test_calls_that_a_tier_made_travel_with_its_answer_and_its_error(engine: Callable[..., Any]) -> None:
    calls = (Attempt("east", 503, 0.1), Attempt("west", 200, 0.2))
    completion = await engine(Handle({**REPLY, "attempts": calls})).generate(QUERY)
    assert completion.attempts == calls
    with pytest.raises(SaturatedError) as caught:
        await engine(
            Handle({"error": {"message": "later", "code": 429, "retry_after_s": 3.5}, "attempts": calls[:1]})
        ).generate(QUERY)
    assert (caught.value.attempts, caught.value.retry_after_s) == (calls[:1], 3.5)


async def test_tier_with_an_adapter_asks_for_it_by_rays_name() -> None:
    from serve_graph.tier_handles import HandleEngine

    class Multiplexed(Handle):
        chosen: ClassVar[list[dict[str, Any]]] = []

        def options(self, **options: Any) -> "Handle":
            self.chosen.append(options)
            return self

    handle = Multiplexed(REPLY)
    await HandleEngine(handle, lora_tier()).generate(QUERY)  # type: ignore[arg-type]
    assert handle.chosen == [{"multiplexed_model_id": "cheap:support-v3"}]
    assert handle.asked[0][0]["model"] == "cheap:support-v3"


def lora_tier(loading_path: str = "s3://bucket/adapters/") -> VllmTierConfig:
    lora = {
        "loading_path": loading_path,
        "adapter": "support-v3",
        "max_adapters_per_replica": 4,
        "max_rank": 32,
    }
    tier = {"engine": "vllm", "name": "cheap", "price": PRICE, "weights": {"hub": "a/b"}, "lora": lora}
    return VllmTierConfig.model_validate(tier)


def test_adapter_turns_vllms_lora_on_and_fills_rays_section() -> None:
    from serve_graph.engines.vllm import llm_settings

    made = llm_settings(lora_tier(), "a/b")
    assert made["lora_config"] == {
        "dynamic_lora_loading_path": "s3://bucket/adapters",
        "max_num_adapters_per_replica": 4,
        "download_timeout_s": 30.0,
        "max_download_tries": 10,
    }
    assert (made["engine_kwargs"]["enable_lora"], made["engine_kwargs"]["max_lora_rank"]) == (True, 32)
    assert llm_settings(lora_tier("/mnt/adapters"), "a/b")["lora_config"]["dynamic_lora_loading_path"] is None
    plain = llm_settings(lora_tier().model_copy(update={"lora": None}), "a/b")
    assert plain["lora_config"] is None
    assert "enable_lora" not in plain["engine_kwargs"]


def test_a_hub_revision_reaches_vllm_for_weights_and_tokenizer() -> None:
    from serve_graph.engines.vllm import llm_settings

    tier = {"engine": "vllm", "name": "cheap", "price": PRICE, "weights": {"hub": "a/b@v2"}}
    asked = llm_settings(VllmTierConfig.model_validate(tier), "a/b")["engine_kwargs"]
    assert (asked["revision"], asked["tokenizer_revision"]) == ("v2", "v2")
    assert "revision" not in llm_settings(lora_tier(), "a/b")["engine_kwargs"]


@pytest.mark.engine
def test_ray_takes_the_adapter_settings_as_its_own() -> None:
    from serve_graph.engines.vllm import llm_config

    made = llm_config(lora_tier(), "a/b")
    assert made.lora_config.dynamic_lora_loading_path == "s3://bucket/adapters"
    assert made.multiplex_config().max_num_models_per_replica == 4


async def test_embeddings_go_through_the_handle(engine: Callable[..., Any]) -> None:
    handle = Handle({"object": "list", "data": [{"embedding": [0.5]}], "usage": {"prompt_tokens": 1}})
    reply = await engine(handle).embed({"input": "a"})
    assert reply["data"] == [{"embedding": [0.5]}]
    assert handle.asked == [({"input": "a", "model": "cheap"},)]


@pytest.mark.parametrize("reply", [{"error": {"message": "no", "code": 500}}, {"object": "list"}])
async def test_reply_without_embeddings_is_an_engine_error(engine: Callable[..., Any], reply: Any) -> None:
    with pytest.raises(EngineError):
        await engine(Handle(reply)).embed({"input": "a"})


@pytest.mark.parametrize("code", [429, 500, 504])
async def test_what_an_engine_says_reaches_the_caller_and_no_record(engine: Callable[..., Any], code: int) -> None:
    """An error may quote the prompt, and prompts are not kept."""
    from serve_graph.service import Service
    from serve_graph.testing import ListSink, fake_graph

    cheap = engine(Handle({"error": {"message": "cannot answer 'my secret'", "code": code}}))
    graph, sink = fake_graph(), ListSink()
    service = Service(replace(graph, engines={**graph.engines, "cheap": cheap}), sink)
    await service.answer(service.open(Query.from_prompt("my secret"), "auto", False))
    [record] = sink.records
    assert record.outcome == "fallback"
    assert f"cheap failed: its engine answered {code}" in record.route_reason
    assert "secret" not in str(record)
    with pytest.raises(EngineError, match="my secret"):
        await cheap.generate(QUERY)
