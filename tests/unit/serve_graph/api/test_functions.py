"""OpenAI's form of tools before `tools`: asked and answered in it, while tiers get tools."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from openai import AsyncOpenAI

from serve_graph.cascade.fakes import FakeDecider, FakeEngine

Endpoints = Callable[..., Any]
F = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}


@pytest.mark.parametrize("tier", ["cheap", "frontier"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_function_call_is_asked_for_and_answered_as_it_used_to_be(
    endpoint: Endpoints, stream: bool, tier: str
) -> None:
    engine = FakeEngine("", tool_calls=[CALL])
    at = endpoint(**{tier: engine}, decider=FakeDecider(tier))
    asked: Any = {"model": "auto", "messages": [{"role": "user", "content": "rain?"}], "functions": [F]}
    async with at.client() as http:
        client = AsyncOpenAI(api_key="none", base_url="http://test/v1", http_client=http, max_retries=0)
        if stream:
            chunks = [chunk async for chunk in await client.chat.completions.create(**asked, stream=True)]
            deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
            calls = [delta.function_call for delta in deltas if delta.function_call]
            name, arguments = "".join(c.name or "" for c in calls), "".join(c.arguments or "" for c in calls)
            reason = [choice.finish_reason for chunk in chunks for choice in chunk.choices][-1]
            assert not any(delta.tool_calls for delta in deltas)
        else:
            [choice] = (await client.chat.completions.create(**asked)).choices
            name, arguments = choice.message.function_call.name, choice.message.function_call.arguments
            reason = choice.finish_reason
            assert choice.message.tool_calls is None
    assert (name, json.loads(arguments), reason) == ("weather", {"city": "Oslo"}, "function_call")
    sent = engine.queries[0].parameters
    assert sent["tools"] == [{"type": "function", "function": F}]
    assert not {"functions", "function_call"} & set(sent)


async def test_a_history_of_function_calls_reaches_the_tier_as_tool_calls(endpoint: Endpoints) -> None:
    call = {"name": "weather", "arguments": "{}"}
    history = [
        {"role": "user", "content": "rain?"},
        {"role": "assistant", "content": None, "function_call": call},
        {"role": "function", "name": "weather", "content": "sun"},
        {"role": "assistant", "content": "no", "function_call": None},
        {"role": "user", "content": "sure?"},
    ]
    at = endpoint()
    async with at.client() as client:
        reply = await client.post("/v1/chat/completions", json={"model": "auto", "messages": history})
    assert reply.status_code == 200
    sent = at.context.engines["cheap"].queries[0].parameters["messages"]
    assert sent[1]["tool_calls"] == [{"id": "call_1", "type": "function", "function": call}]
    assert sent[2] == {"role": "tool", "tool_call_id": "call_1", "content": "sun"}
    assert sent[3] == {"role": "assistant", "content": "no"}
    assert sent[4] == history[4]


@pytest.mark.parametrize("choice", ["none", "auto", {"name": "weather"}], ids=str)
async def test_the_choice_of_a_function_is_the_choice_of_a_tool(endpoint: Endpoints, choice: Any) -> None:
    at = endpoint()
    await at.chat(functions=[F], function_call=choice)
    sent = at.context.engines["cheap"].queries[0].parameters
    expected = choice if isinstance(choice, str) else {"type": "function", "function": choice}
    assert (sent["tool_choice"], sent["parallel_tool_calls"]) == (expected, False)


async def test_a_choice_without_functions_is_the_tiers_to_judge(endpoint: Endpoints) -> None:
    at = endpoint()
    await at.chat(function_call={"name": "weather"})
    sent = at.context.engines["cheap"].queries[0].parameters
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "weather"}}


async def test_replies_without_a_call_are_ordinary(endpoint: Endpoints) -> None:
    [choice] = (await endpoint().chat(functions=[F])).json()["choices"]
    assert (choice["message"], choice["finish_reason"]) == ({"role": "assistant", "content": "cheap says"}, "stop")
