"""Requests of Anthropic's Messages API as chat requests."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from serve_graph.api.messages import CountTokensRequest, MessagesRequest, messages_query
from serve_graph.errors import RequestError
from serve_graph.protocol.requests import parse_request

CASES = yaml.safe_load((Path(__file__).parents[4] / "fixtures" / "anthropic" / "requests.yaml").read_text())
LEAST: dict[str, Any] = {"model": "auto", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}
PNG = {"type": "base64", "media_type": "image/png", "data": "aGk="}


def converted(body: dict[str, Any]) -> dict[str, Any]:
    """What an engine gets for a request."""
    return dict(messages_query(parse_request(MessagesRequest, json.dumps(body).encode())).parameters)


def asking(*content: dict[str, Any]) -> dict[str, Any]:
    return LEAST | {"messages": [{"role": "user", "content": list(content)}]}


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_a_request_becomes_a_chat_request(case: dict[str, Any]) -> None:
    assert converted(case["request"]) == case["chat"]


def test_a_router_reads_the_text_of_the_conversation() -> None:
    body = asking({"type": "image", "source": PNG}, {"type": "text", "text": "what is this?"})
    query = messages_query(parse_request(MessagesRequest, json.dumps(body | {"system": "Be brief."}).encode()))
    assert [(m.role, m.content) for m in query.messages] == [("system", "Be brief."), ("user", "what is this?")]


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("frequency_penalty", 1, "unrecognized request argument: frequency_penalty"),
        ("max_tokens", None, "max_tokens"),
        ("max_tokens", 0, "max_tokens"),
        ("temperature", 1.5, "temperature"),
        ("messages", [], "messages"),
        ("messages", [{"role": "tool", "content": "x"}], "messages.0.role"),
        ("messages", [{"role": "user", "content": []}], "nothing to answer"),
        ("messages", [{"role": "user", "content": "x"}, {"role": "assistant", "content": "{"}], "prefill"),
        ("system", [{"type": "image", "source": PNG}], "system.0.type"),
        ("tools", [{"type": "web_search_20250305", "name": "web_search"}], "'web_search_20250305' are not supported"),
        ("tools", [{"type": "bash_20250124", "name": "bash"}], "'bash_20250124' are not supported"),
        ("tools", [{"name": "x"}], "missing required field: tools.0.input_schema"),
        ("tools", [{"input_schema": {}}], "missing required field: tools.0.name"),
        ("tool_choice", {"type": "any"}, "tool_choice: there are no tools"),
        ("tool_choice", {"type": "tool"}, "tool_choice: there are no tools"),
        ("tool_choice", {"type": "some"}, "tool_choice.type"),
        ("thinking", {"type": "enabled", "budget_tokens": 10}, "thinking.budget_tokens"),
        ("context_management", {"edits": [{"type": "compact_20260112"}]}, "context_management.edits.0.type"),
        ("mcp_servers", [{"url": "https://example.org"}], "mcp_servers"),
        ("container", "c1", "container"),
        ("metadata", {"user": "x"}, "metadata.user"),
        ("stop_sequences", "END", "stop_sequences"),
    ],
)
def test_what_cannot_be_done_is_rejected_by_name(field: str, value: Any, named: str) -> None:
    with pytest.raises(RequestError, match=named.replace(".", r"\.")):
        converted(LEAST | {field: value})


@pytest.mark.parametrize(
    "block",
    [
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}},
        {"type": "container_upload", "file_id": "f"},
        {"type": "image", "source": {"type": "file", "file_id": "f"}},
        {"type": "document", "source": {"type": "url", "url": "https://example.org/a.pdf"}},
        {"type": "document", "source": {"type": "file", "file_id": "f"}},
        {"type": "tool_use", "id": "toolu_1", "name": "x", "input": {}},
        {"type": "thinking", "thinking": "x", "signature": "y"},
        {"text": "no type"},
        "no block",
        {"type": "tool_result", "content": "of nothing"},
        {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "tool_reference", "tool_name": "x"}]},
    ],
    ids=lambda block: block.get("type", "none") if isinstance(block, dict) else block,
)
def test_a_block_that_cannot_be_sent_on_is_rejected_with_its_place(block: Any) -> None:
    with pytest.raises(RequestError, match="messages") as caught:
        converted(asking(block))
    assert caught.value.param == "messages"


def test_results_of_tools_are_the_users() -> None:
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "x"}
    with pytest.raises(RequestError, match="tool_result is the user's"):
        converted(LEAST | {"messages": [{"role": "assistant", "content": [result]}, *LEAST["messages"]]})


@pytest.mark.parametrize(
    ("fields", "effort"),
    [
        ({}, None),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "low"),
        ({"thinking": {"type": "enabled", "budget_tokens": 4096}}, "medium"),
        ({"thinking": {"type": "enabled", "budget_tokens": 32000}}, "high"),
        ({"thinking": {"type": "adaptive"}}, "medium"),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}, "low"),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "low"}}, None),
        ({"output_config": {"effort": "xhigh"}}, "high"),
    ],
)
def test_thinking_is_a_reasoning_effort(fields: dict[str, Any], effort: str | None) -> None:
    assert converted(LEAST | fields).get("reasoning_effort") == effort


def test_tokens_are_counted_of_a_request_without_sampling_fields() -> None:
    body = {name: value for name, value in LEAST.items() if name != "max_tokens"}
    query = messages_query(parse_request(CountTokensRequest, json.dumps(body).encode()))
    assert query.parameters == {"messages": [{"role": "user", "content": "hello"}]}


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
ids = st.uuids().map(lambda found: f"toolu_{found.hex}")
inputs = st.dictionaries(texts, st.none() | st.booleans() | st.integers() | texts | st.lists(texts), max_size=3)


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Turns of a user and an assistant, every call followed by its result."""
    turns: list[dict[str, Any]] = [{"role": "user", "content": draw(texts)}]
    for _ in range(draw(st.integers(0, 4))):
        said = [{"type": "text", "text": text} for text in draw(st.lists(texts, max_size=2))]
        calls = [
            {"type": "tool_use", "id": call_id, "name": "tool", "input": draw(inputs)}
            for call_id in draw(st.lists(ids, max_size=3, unique=True))
        ]
        results = [{"type": "tool_result", "tool_use_id": call["id"], "content": draw(texts)} for call in calls]
        asked = [{"type": "text", "text": text} for text in draw(st.lists(texts, min_size=not results, max_size=2))]
        if said or calls:
            turns.append({"role": "assistant", "content": said + calls})
        turns.append({"role": "user", "content": results + asked})
    return turns


@given(conversations())
def test_no_text_call_or_result_is_lost_or_changes_its_place(turns: list[dict[str, Any]]) -> None:
    messages = converted(LEAST | {"messages": turns})["messages"]
    blocks = [
        block
        for turn in turns
        for block in (
            [{"type": "text", "text": turn["content"]}] if isinstance(turn["content"], str) else turn["content"]
        )
    ]
    calls = [call for message in messages for call in message.get("tool_calls", ())]
    assert [(call["id"], json.loads(call["function"]["arguments"])) for call in calls] == [
        (block["id"], block["input"]) for block in blocks if block["type"] == "tool_use"
    ]
    results = [(m["tool_call_id"], m["content"]) for m in messages if m["role"] == "tool"]
    assert results == [(b["tool_use_id"], b["content"]) for b in blocks if b["type"] == "tool_result"]
    said = "".join(m["content"] or "" for m in messages if m["role"] in ("user", "assistant") and m.get("content"))
    told = "".join(block["text"] for block in blocks if block["type"] == "text")
    assert said.replace("\n", "") == told.replace("\n", "")
    for before, after in pairwise(messages):
        if after["role"] == "tool":
            assert before["role"] == "tool" or before.get("tool_calls")
        else:
            assert before["role"] != after["role"]
