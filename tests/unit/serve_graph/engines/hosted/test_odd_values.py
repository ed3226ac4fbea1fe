"""Values of replies that are nearly what they should be: indices, numbers that are no JSON, names that come late."""

import asyncio
from typing import Any

import httpx
import pytest

from serve_graph.config.tiers.kinds import HostedTierConfig
from serve_graph.engines.hosted.deployment_error import DeploymentError
from serve_graph.engines.hosted.engine import HostedEngine

Upstream = Any  # tests.fixtures.upstream.Upstream
DONE = "data: [DONE]\n\n"


def chunk(delta: dict[str, Any], reason: str | None = None, index: Any = 0) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": delta, "finish_reason": reason}]}


@pytest.mark.parametrize("index", ["0", 0.0, -1, None, "first", True, 1.5, 10**12])
async def test_an_odd_index_of_a_call_costs_no_answer(upstream: Upstream, index: Any) -> None:
    call = {"index": index, "id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    upstream.plays({"events": [chunk({"tool_calls": [call]}), chunk({}, "tool_calls"), DONE]})
    calls = [c for e in await upstream.events() for x in e["choices"] for c in x["delta"].get("tool_calls", ())]
    assert [(c["index"], c["function"]) for c in calls] == [(0, {"name": "f", "arguments": "{}"})]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("index", ["0", 0.0, -1, None])
async def test_an_odd_index_of_a_choice_costs_no_answer(upstream: Upstream, index: Any, stream: bool) -> None:
    choice = {"index": index, "message": {"content": "hi"}, "finish_reason": "stop"}
    events = [chunk({"content": "hi"}, index=index), chunk({}, "stop", index), DONE]
    upstream.plays({"events": events} if stream else {"json": {"choices": [choice]}})
    if stream:
        choices = [choice for event in await upstream.events() for choice in event["choices"]]
        assert "".join(choice["delta"].get("content") or "" for choice in choices) == "hi"
    else:
        choices = (await upstream.ask()).json()["choices"]
        assert choices[0]["message"]["content"] == "hi"
    assert {choice["index"] for choice in choices} == {0}


@pytest.mark.parametrize("stream", [False, True])
async def test_numbers_that_are_no_json_become_such(upstream: Upstream, stream: bool) -> None:
    tokens = [{"token": "hi", "logprob": float("-inf"), "top_logprobs": []}]
    choice = {"index": 0, "finish_reason": "stop", "logprobs": {"content": tokens}, "score": float("nan")}
    said = {"choices": [{**choice, "delta" if stream else "message": {"content": "hi"}}]}
    upstream.plays({"events": [said, DONE]} if stream else {"json": said})
    text = (await upstream.ask(logprobs=True, stream=stream)).text
    assert '"logprob":-9999.0' in text
    assert not any(word in text for word in ("Infinity", "NaN"))


@pytest.mark.parametrize("end", ["data: [done]\n\n", "data: [Done]\n\n"])
async def test_the_end_may_be_in_small_letters(upstream: Upstream, end: str) -> None:
    upstream.plays({"events": [chunk({"content": "hi"}), end]})
    assert not any("error" in event for event in await upstream.events())


LATE = {
    "after the id": [{"id": "c1"}, {"function": {"name": "f"}}, {"function": {"arguments": "{}"}}],
    "with the arguments": [{"id": "c1", "function": {"name": None}}, {"function": {"name": "f", "arguments": "{}"}}],
    "after the arguments": [
        {"id": "c1", "function": {"arguments": "{"}},
        {"function": {"name": "f"}},
        {"function": {"arguments": "}"}},
    ],
}


@pytest.mark.parametrize("name", LATE)
async def test_a_name_that_comes_late_is_the_name_of_a_responses_call(upstream: Upstream, name: str) -> None:
    pieces = [chunk({"tool_calls": [{"index": 0, **piece}]}) for piece in LATE[name]]
    upstream.plays({"events": [*pieces, chunk({}, "tool_calls"), DONE]})
    events = await upstream.events("/v1/responses")
    [added] = [event["item"] for event in events if event["type"] == "response.output_item.added"]
    [call] = events[-1]["response"]["output"]
    said = "".join(event["delta"] for event in events if event["type"].endswith("arguments.delta"))
    assert (added["name"], call["name"], call["arguments"], said) == ("f", "f", "{}", "{}")
    assert call["status"] == "completed"


async def test_a_responses_call_that_never_gets_a_name_is_shown_without(upstream: Upstream) -> None:
    piece = {"index": 0, "id": "c1", "function": {"arguments": "{}"}}
    upstream.plays({"events": [chunk({"tool_calls": [piece]}), chunk({}, "tool_calls"), DONE]})
    events = await upstream.events("/v1/responses")
    ended = events[-1]["response"]["output"]
    assert [call["arguments"] for call in ended] == ["{}"]


@pytest.mark.parametrize("reason", ["length", "MAX_TOKENS", "content_filter"])
@pytest.mark.parametrize("message", [{}, {"message": None}, {"message": {}}, {"message": {"role": "assistant"}}])
async def test_a_limit_that_is_used_up_before_the_answer_begins_is_no_failure(
    upstream: Upstream, message: dict[str, Any], reason: str
) -> None:
    upstream.plays({"json": {"choices": [{"index": 0, "finish_reason": reason, **message}]}})
    reply = await upstream.ask()
    assert reply.status_code == 200
    [choice] = reply.json()["choices"]
    assert (choice["finish_reason"], choice["message"]["content"]) == (
        {"MAX_TOKENS": "length"}.get(reason, reason),
        None,
    )


ODD_USAGES: list[Any] = [{}, "none", [3], [[1, 2]], 7, True, [{"prompt_tokens": 3}], {"prompt_tokens": {"a": []}}]


@pytest.mark.parametrize("usage", ODD_USAGES, ids=repr)
async def test_a_deployment_comes_back_after_a_probe_whose_usage_is_no_object(
    usage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ODD_KEY", "secret-of-the-test")
    good = {"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}]}
    replies = [httpx.Response(500), httpx.Response(200, json={"choices": [], "usage": usage})]
    failover = {"max_attempts": 1, "trip_after": 1, "cooldown_s": 0.02, "backoff_s": 0.01, "max_wait_s": 0.01}
    given = {"name": "t", "engine": "openai", "model": "m", "base_url": "http://a/v1", "api_key_env": "ODD_KEY",
             "price": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1}, "failover": failover}  # fmt: skip
    transport = httpx.MockTransport(lambda _: replies.pop(0) if replies else httpx.Response(200, json=good))
    engine = HostedEngine(HostedTierConfig.model_validate(given), httpx.AsyncClient(transport=transport))
    body = {"messages": [{"role": "user", "content": "hi"}]}
    said = []
    for _ in range(3):
        reply = await engine.generate(body, 30.0)
        said.append(reply["error"]["message"] if "error" in reply else reply["choices"][0]["message"]["content"])
        await asyncio.sleep(0.05)
    assert "contains no answer" in said[1]
    assert said[2] == "hi"


@pytest.mark.parametrize("usage", ["none", [3], 7, True, [("prompt_tokens", 3)], None])
def test_usage_that_is_no_object_is_none(usage: Any) -> None:
    assert DeploymentError("no", 502, usage=usage).usage is None
