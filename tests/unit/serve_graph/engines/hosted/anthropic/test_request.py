"""Chat bodies as requests of Anthropic's Messages API."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from serve_graph.api.messages import MessagesRequest, messages_query
from serve_graph.config.tiers.parts import HostedDeploymentConfig
from serve_graph.engines.hosted.anthropic.messages import NOTHING_ASKED, call_id_of
from serve_graph.engines.hosted.anthropic.request import anthropic_request
from serve_graph.engines.hosted.deployment_error import DeploymentError
from serve_graph.protocol.requests import engine_body, parse_request
from tests.unit.serve_graph.api.messages.test_query import conversations

FOLDER = Path(__file__).parents[5] / "fixtures" / "anthropic"
CASES = yaml.safe_load((FOLDER / "hosted_requests.yaml").read_text())
CLIENTS_CASES = yaml.safe_load((FOLDER / "requests.yaml").read_text())
HELLO = [{"role": "user", "content": "hello"}]


def config_of(**fields: Any) -> HostedDeploymentConfig:
    return HostedDeploymentConfig.model_validate({"name": "a", "model": "claude", "api": "anthropic", **fields})


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_a_chat_body_becomes_a_request(case: dict[str, Any]) -> None:
    request = anthropic_request(case["chat"], config_of(**case.get("config", {})))
    assert request == {"model": "claude", **case["request"]}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"n": 2}, "n must be 1"),
        ({"audio": {"voice": "ash"}}, "audio is not supported"),
        ({"modalities": ["text", "audio"]}, "modalities is not supported"),
        ({"web_search_options": {}}, "web_search_options is not supported"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "'custom'"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]}, "'input_audio'"),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]}, "'file'"),
    ],
)
def test_what_the_api_cannot_do_is_the_requests_fault(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(DeploymentError, match=named) as caught:
        anthropic_request({"max_tokens": 9, "messages": HELLO, **fields}, config_of())
    assert caught.value.is_requests_fault


@pytest.mark.parametrize("case", CLIENTS_CASES, ids=[case["name"] for case in CLIENTS_CASES])
def test_a_request_of_anthropics_comes_out_as_it_went_in(case: dict[str, Any]) -> None:
    """Through the endpoint to a tier of Anthropic's: the same texts, blocks, calls and tools."""
    out = round_trip(case["request"])
    given = case["request"]
    for name in ("max_tokens", "stop_sequences", "top_k", "tool_choice", "stream"):
        if name == "tool_choice" and not given.get("tools"):
            continue
        assert out.get(name) == given.get(name)
    assert [tool["name"] for tool in out.get("tools", ()) if given.get("tools")] == [
        tool["name"] for tool in given.get("tools", ())
    ]
    for kind in ("tool_use", "tool_result", "image"):
        assert parts(out["messages"], kind) == parts(given["messages"], kind)


def round_trip(body: dict[str, Any]) -> dict[str, Any]:
    parsed = parse_request(MessagesRequest, json.dumps(body).encode())
    sent = engine_body(messages_query(parsed), "claude", {}) | ({"stream": True} if parsed.stream else {})
    return anthropic_request(sent, config_of())


def parts(turns: list[dict[str, Any]], kind: str) -> list[Any]:
    """What identifies the blocks of a kind: of calls their ids, names and inputs, of images their sources."""
    blocks = [block for turn in turns for block in turn["content"] if isinstance(block, dict)]
    inner = [part for block in blocks for part in block.get("content") or () if isinstance(part, dict)]
    names = {"tool_use": ("id", "name", "input"), "tool_result": ("tool_use_id",), "image": ("source",)}[kind]
    return [[block[name] for name in names] for block in blocks + inner if block["type"] == kind]


@given(conversations())
def test_a_conversation_of_anthropics_keeps_its_texts_calls_and_ids_on_the_way_through(
    turns: list[dict[str, Any]],
) -> None:
    out = round_trip({"model": "auto", "max_tokens": 9, "messages": turns})["messages"]
    for kind in ("tool_use", "tool_result"):
        assert parts(out, kind) == parts(turns, kind)
    results = [block for turn in out for block in turn["content"] if block["type"] == "tool_result"]
    told = [block for turn in turns for block in turn["content"] if isinstance(block, dict)]
    assert [squeezed(*(part["text"] for part in result.get("content", ()))) for result in results] == [
        squeezed(block["content"]) for block in told if block["type"] == "tool_result"
    ]
    for role in ("user", "assistant"):
        assert texts_in(out, role).replace(squeezed(NOTHING_ASKED), "") == texts_in(turns, role)


def texts_in(turns: list[dict[str, Any]], role: str) -> str:
    """All that a role says, without white space."""
    contents = [turn["content"] for turn in turns if turn["role"] == role]
    blocks = [[{"type": "text", "text": c}] if isinstance(c, str) else c for c in contents]
    return squeezed(*(b["text"] for each in blocks for b in each if b["type"] == "text"))


def squeezed(*texts: str) -> str:
    return "".join("".join(texts).split())


words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(str.strip)
call_ids = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1, max_size=12)
inputs = st.dictionaries(words, st.none() | st.booleans() | st.integers() | words, max_size=2)


@st.composite
def chats(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A chat in which every call has its result."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": draw(words)}] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 4))):
        messages.append({"role": "user", "content": draw(words)})
        calls = [
            {"id": call_id, "type": "function", "function": {"name": "tool", "arguments": json.dumps(draw(inputs))}}
            for call_id in draw(st.lists(call_ids, max_size=3, unique=True))
        ]
        if calls or draw(st.booleans()):
            said = {"role": "assistant", "content": draw(words)}
            messages.append(said | ({"tool_calls": calls} if calls else {}))
        messages += [{"role": "tool", "tool_call_id": call["id"], "content": draw(words)} for call in calls]
    return [*messages, {"role": "user", "content": draw(words)}]


@given(chats())
def test_no_text_call_or_result_of_a_chat_is_lost_or_changes_its_place(messages: list[dict[str, Any]]) -> None:
    request = anthropic_request({"max_tokens": 9, "messages": messages}, config_of())
    turns = request["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant"] * (len(turns) // 2) + ["user"] * (len(turns) % 2)
    blocks = [(turn["role"], block) for turn in turns for block in turn["content"]]
    calls = [call for message in messages for call in message.get("tool_calls", ())]
    assert [(b["id"], b["input"]) for _, b in blocks if b["type"] == "tool_use"] == [
        (call_id_of(call["id"]), json.loads(call["function"]["arguments"])) for call in calls
    ]
    assert [(b["tool_use_id"], b["content"][0]["text"]) for _, b in blocks if b["type"] == "tool_result"] == [
        (call_id_of(m["tool_call_id"]), m["content"]) for m in messages if m["role"] == "tool"
    ]
    for role in ("user", "assistant"):
        told = [block["text"].rstrip() for of, block in blocks if of == role and block["type"] == "text"]
        assert told == [m["content"].rstrip() for m in messages if m["role"] == role]
    asked = [block["text"] for block in request.get("system", ())]
    assert asked == [m["content"] for m in messages if m["role"] == "system"]
    if calls:
        assert request["tools"], "a conversation with calls is refused without tools"


@given(call_ids, call_ids)
def test_call_ids_are_of_the_letters_the_api_takes_and_stay_different(one: str, other: str) -> None:
    assert set(call_id_of(one)) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
    assert (call_id_of(one) == call_id_of(other)) == (one == other)
