"""Custom tools of `/v1/responses`, whose input is text: there, back, and the tools that no tier runs."""

from collections.abc import Callable
from typing import Any

import pytest
from openai.types.responses import Response
from pydantic import TypeAdapter

from serve_graph.api.responses.items import Items
from serve_graph.cascade.fakes import FakeEngine

Endpoints = Callable[..., Any]
GRAMMAR = {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"}
PATCH = {"type": "custom", "name": "apply_patch", "description": "edits files", "format": GRAMMAR}
CALL = {"id": "call_1", "type": "custom", "custom": {"name": "apply_patch", "input": "*** Begin Patch"}}


async def ask(at: Any, **fields: Any) -> dict[str, Any]:
    async with at.client() as client:
        reply = await client.post("/v1/responses", json={"model": "frontier", "input": "hello", **fields})
    assert reply.status_code == 200, reply.text
    data: dict[str, Any] = reply.json()
    return data


async def test_a_custom_tool_reaches_the_tier_and_its_call_comes_back(endpoint: Endpoints) -> None:
    engine = FakeEngine("", tool_calls=[CALL])
    at = endpoint(frontier=engine)
    said = await ask(at, tools=[PATCH], tool_choice={"type": "custom", "name": "apply_patch"})
    [item] = TypeAdapter(Response).validate_python(said).output
    assert (item.type, item.name, item.input) == ("custom_tool_call", "apply_patch", "*** Begin Patch")
    sent = engine.queries[0].parameters
    grammar = {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: /.+/"}}
    custom = {"name": "apply_patch", "description": "edits files", "format": grammar}
    assert sent["tools"] == [{"type": "custom", "custom": custom}]
    assert sent["tool_choice"] == {"type": "custom", "custom": {"name": "apply_patch"}}

    result = {"type": "custom_tool_call_output", "call_id": said["output"][0]["call_id"], "output": "done"}
    await ask(at, tools=[PATCH], input=[{"role": "user", "content": "hello"}, said["output"][0], result])
    messages = engine.queries[1].parameters["messages"]
    assert messages[1] == {"role": "assistant", "content": None, "tool_calls": [CALL]}
    assert messages[2] == {"role": "tool", "tool_call_id": "call_1", "content": "done"}


async def test_the_tools_that_may_be_called_are_told_the_tier(endpoint: Endpoints) -> None:
    at = endpoint()
    tools = [{"type": "custom", "name": "apply_patch"}, {"type": "function", "name": "f"}]
    await ask(at, tools=tools, tool_choice={"type": "allowed_tools", "mode": "required", "tools": tools})
    allowed = at.context.engines["frontier"].queries[0].parameters["tool_choice"]["allowed_tools"]
    named = [{"type": "custom", "custom": {"name": "apply_patch"}}, {"type": "function", "function": {"name": "f"}}]
    assert allowed == {"mode": "required", "tools": named}


def test_the_input_of_a_custom_tool_grows_in_typed_events() -> None:
    items = Items("chatcmpl-1")
    first = {"index": 0, "id": "call_1", "type": "custom", "custom": {"name": "apply_patch", "input": ""}}
    events = items.take({"tool_calls": [first]})
    for piece in ("*** ", "Begin"):
        events += items.take({"tool_calls": [{"index": 0, "custom": {"input": piece}}]})
    events += items.close()
    assert [event["type"] for event in events] == [
        "response.output_item.added",
        "response.custom_tool_call_input.delta",
        "response.custom_tool_call_input.delta",
        "response.custom_tool_call_input.done",
        "response.output_item.done",
    ]
    assert events[3]["input"] == events[4]["item"]["input"] == "*** Begin"


@pytest.mark.parametrize(
    "kind",
    [
        "web_search", "web_search_preview", "web_search_2025_08_26", "file_search", "computer", "computer_use_preview",
        "mcp", "code_interpreter", "image_generation", "local_shell", "shell", "apply_patch", "namespace",
        "tool_search", "made_up",
    ],
)  # fmt: skip
@pytest.mark.parametrize("policy", ["refuse", "ignore", "forward"])
async def test_a_tool_that_no_tier_runs_is_refused_by_name(endpoint: Endpoints, kind: str, policy: str) -> None:
    at = endpoint(unknown_fields=policy)
    for how in ({"tools": [{"type": "function", "name": "f"}, {"type": kind}]}, {"tool_choice": {"type": kind}}):
        async with at.client() as client:
            reply = await client.post("/v1/responses", json={"model": "auto", "input": "x", **how})
        error = reply.json()["error"]
        assert (reply.status_code, error["code"], error["param"]) == (400, "unsupported_value", next(iter(how)))
        assert f"'{kind}'" in error["message"]


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": None},
        {"max_tool_calls": None},
        {"max_tool_calls": 5},
        {"top_logprobs": 0},
        {"prompt_cache_retention": None},
        {"client_metadata": {"a": "b"}},
        {"background": False},
        {"tools": []},
        {
            "include": ["reasoning.encrypted_content"],
            "store": False,
            "reasoning": {"effort": "high", "summary": "auto"},
        },
        {"text": None, "reasoning": None, "tool_choice": None, "stream_options": None},
    ],
    ids=str,
)
async def test_what_agents_send_along_is_no_fault(endpoint: Endpoints, fields: dict[str, Any]) -> None:
    assert (await ask(endpoint(), **fields))["status"] == "completed"
