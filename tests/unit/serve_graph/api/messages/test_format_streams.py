"""Streams of the Messages API: events in order, calls whole, whatever the deltas."""

import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_graph.api.messages import MessagesFormat
from tests.unit.serve_graph.api.messages.replies import FACTS, HEAD, PLAIN, THINKS, closing, events_of, piece_of


def argument(index: int | None, arguments: str, call_id: str | None = None, name: str | None = None) -> dict[str, Any]:
    call = {"index": index, "id": call_id, "function": {"name": name, "arguments": arguments}}
    return piece_of({"tool_calls": [call]})


def assembled(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The message that a client puts together; fails where the events are not in Anthropic's order."""
    assert [event["type"] for event in events[:2]] == ["message_start", "ping"]
    assert [event["type"] for event in events[-2:]] == ["message_delta", "message_stop"]
    message: dict[str, Any] = json.loads(json.dumps(events[0]["message"]))
    assert message["content"] == []
    texts: list[str] = []
    is_open = False
    for event in events[2:-2]:
        match event["type"]:
            case "content_block_start":
                assert not is_open, "one block is open at a time"
                assert event["index"] == len(message["content"])
                message["content"].append(dict(event["content_block"]))
                texts.append("")
                is_open = True
            case "content_block_delta":
                assert is_open, "a delta belongs to the open block"
                assert event["index"] == len(texts) - 1
                block, delta = message["content"][-1], event["delta"]
                fits = {
                    ("text", "text_delta"): "text",
                    ("thinking", "thinking_delta"): "thinking",
                    ("thinking", "signature_delta"): "signature",
                    ("tool_use", "input_json_delta"): "partial_json",
                }
                field = fits[block["type"], delta["type"]]
                assert delta[field], "no delta is empty"
                if field == "signature":
                    block["signature"] = delta[field]
                else:
                    texts[-1] += delta[field]
            case "content_block_stop":
                assert is_open
                assert event["index"] == len(texts) - 1
                is_open = False
            case kind:
                raise AssertionError(f"{kind} inside a message")
    assert not is_open
    for block, text in zip(message["content"], texts, strict=True):
        if block["type"] == "tool_use":
            block["input"] = text
        elif block["type"] in ("text", "thinking"):
            block[block["type"]] = text
    return message | events[-2]["delta"] | {"usage": events[-2]["usage"]}


async def test_a_stream_is_a_message_of_text() -> None:
    events = await events_of(
        [piece_of({"role": "assistant", "content": ""}), piece_of({"content": "hel"}), piece_of({"content": "lo"}),
         piece_of({}, "stop"), closing(prompt_tokens=10, completion_tokens=5)]
    )  # fmt: skip
    message = assembled(events)
    assert message["content"] == [{"type": "text", "text": "hello"}]
    assert (message["id"], message["model"], message["stop_reason"]) == ("msg_1", "cheap", "end_turn")
    assert (message["usage"]["input_tokens"], message["usage"]["output_tokens"]) == (10, 5)
    assert events[-2]["serve_graph"] == FACTS
    assert sum(event["type"] == "content_block_delta" for event in events) == 2, "pieces are sent on as they come"


async def test_a_call_opens_once_its_name_is_whole() -> None:
    pieces = [
        argument(0, "", "call_1", "wea"),
        argument(0, "", None, "ther"),
        argument(0, '{"a":'),
        argument(0, " 1}"),
    ]
    events = await events_of([piece_of({"content": "Let me see."}), *pieces, piece_of({}, "tool_calls"), closing()])
    text, call = assembled(events)["content"]
    assert text["text"] == "Let me see."
    assert call == {"type": "tool_use", "id": "call_1", "name": "weather", "input": '{"a": 1}'}


async def test_parallel_calls_whose_pieces_alternate_arrive_intact() -> None:
    pieces = [
        argument(0, "", "call_1", "a"), argument(1, "", "call_2", "b"), argument(0, '{"x":'), argument(1, '{"y":'),
        argument(1, "2}"), argument(0, "1}"), piece_of({"content": "done"}),
    ]  # fmt: skip
    one, two, text = assembled(await events_of([*pieces, piece_of({}, "tool_calls"), closing()]))["content"]
    assert [one["input"], two["input"], text["text"]] == ['{"x":1}', '{"y":2}', "done"]


async def test_the_first_of_two_calls_is_sent_while_the_second_comes() -> None:
    stream = PLAIN.events(_never_ending([argument(0, '{"x":1}', "call_1", "a"), argument(1, "{", "call_2", "b")]))
    kinds = [json.loads((await anext(stream)).split(b"data: ")[1])["type"] for _ in range(7)]
    begun = ["content_block_start", "content_block_delta"]
    assert kinds[2:] == [*begun, "content_block_stop", *begun]
    await stream.aclose()


async def _never_ending(chunks: list[dict[str, Any]]) -> AsyncGenerator[dict[str, Any], None]:
    for chunk in chunks:
        yield chunk
    raise AssertionError("read on too far")


async def test_a_call_without_arguments_has_an_empty_object() -> None:
    content = assembled(await events_of([argument(0, "", "call_1", "now"), closing()]))["content"]
    assert content == [{"type": "tool_use", "id": "call_1", "name": "now", "input": "{}"}]


async def test_signed_reasoning_streams_with_its_signature() -> None:
    signed = {"thinking_blocks": [{"type": "thinking", "thinking": "2 + 2", "signature": "s"}]}
    redacted = {"thinking_blocks": [{"type": "redacted_thinking", "data": "x"}]}
    pieces = [piece_of({"reasoning_content": "2 +"}), piece_of({"reasoning_content": " 2"}), piece_of(signed)]
    pieces += [piece_of(redacted), piece_of({"reasoning_content": "more"}), piece_of({"content": "4"}), closing()]
    assert assembled(await events_of(pieces, THINKS))["content"] == [
        {"type": "thinking", "thinking": "2 + 2", "signature": "s"},
        {"type": "redacted_thinking", "data": "x"},
        {"type": "thinking", "thinking": "more", "signature": ""},
        {"type": "text", "text": "4"},
    ]
    assert [block["type"] for block in assembled(await events_of(pieces))["content"]] == ["text"]


async def test_an_abstention_streams_once() -> None:
    pieces = [piece_of({"content": "I do not know."}), piece_of({"refusal": "I do not know."}), piece_of({}, "stop")]
    message = assembled(await events_of([*pieces, closing()]))
    assert message["content"] == [{"type": "text", "text": "I do not know."}]
    assert message["stop_reason"] == "refusal"


async def test_a_refusal_alone_streams_as_text() -> None:
    message = assembled(await events_of([piece_of({"refusal": "I "}), piece_of({"refusal": "won't."}), closing()]))
    assert (message["content"], message["stop_reason"]) == ([{"type": "text", "text": "I won't."}], "refusal")


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("service_unavailable_error", "api_error"),
        ("server_error", "api_error"),
        ("rate_limit_error", "overloaded_error"),
        ("timeout_error", "timeout_error"),
    ],
)
@pytest.mark.parametrize("begun", [True, False])
async def test_a_failure_ends_the_stream_with_an_error(kind: str, told: str, begun: bool) -> None:
    error = {"error": {"message": "died", "type": kind, "param": None, "code": "stream_broken"}}
    events = await events_of([*([piece_of({"content": "x"})] if begun else []), error])
    assert events[-1] == {"type": "error", "error": {"type": told, "message": "died"}}
    assert len(events) == (5 if begun else 1)


async def test_a_second_choice_is_left_out() -> None:
    other = HEAD | {"choices": [{"index": 1, "delta": {"content": "other"}, "finish_reason": None}]}
    message = assembled(await events_of([piece_of({"content": "x"}), other, piece_of({}, "stop"), closing()]))
    assert message["content"] == [{"type": "text", "text": "x"}]


words = st.text(max_size=6)
ANY_DELTA = st.one_of(
    st.fixed_dictionaries({"content": words}),
    st.fixed_dictionaries({"reasoning_content": words}),
    st.fixed_dictionaries({"refusal": words}),
    st.fixed_dictionaries({"content": words, "reasoning": words}),
    st.just({}),
    st.just({"role": "assistant"}),
    st.just({"thinking_blocks": [{"type": "redacted_thinking", "data": "x"}]}),
    st.just({"thinking_blocks": [{"type": "thinking", "thinking": "", "signature": "s"}]}),
    st.fixed_dictionaries(
        {
            "tool_calls": st.lists(
                st.fixed_dictionaries(
                    {"function": st.fixed_dictionaries({"arguments": st.sampled_from(["", "{", "}", '"a":1', "{}"])})},
                    optional={"index": st.integers(0, 3), "id": st.sampled_from(["", "call_1", "call_2"])},
                ),
                max_size=2,
            )
        }
    ),
)


@given(st.lists(ANY_DELTA, max_size=15), st.booleans())
async def test_whatever_the_deltas_the_events_keep_their_order_and_the_text(
    deltas: list[dict[str, Any]], shows_thinking: bool
) -> None:
    chunks = [*map(piece_of, deltas), piece_of({}, "stop"), closing()]
    content = assembled(await events_of(chunks, MessagesFormat(shows_thinking)))["content"]
    said = "".join(block["text"] for block in content if block["type"] == "text")
    told = "".join(delta.get("content") or "" for delta in deltas)
    assert said == told or (said.endswith(told) and any(delta.get("refusal") for delta in deltas))
    thought = "".join(block["thinking"] for block in content if block["type"] == "thinking")
    thoughts = "".join(delta.get("reasoning") or delta.get("reasoning_content") or "" for delta in deltas)
    assert thought == (thoughts if shows_thinking else "")
    called = {call.get("index", at) for d in deltas for at, call in enumerate(d.get("tool_calls") or ())}
    assert len([block for block in content if block["type"] == "tool_use"]) == len(called)


@given(st.data())
async def test_calls_arrive_whole_however_their_pieces_are_mixed(data: st.DataObject) -> None:
    arguments = data.draw(
        st.lists(st.dictionaries(words, st.integers() | words, max_size=2).map(json.dumps), min_size=1, max_size=4)
    )
    left = dict(enumerate(arguments))
    pieces = []
    begun: set[int] = set()
    while left:
        at = data.draw(st.sampled_from(sorted(left)))
        size = data.draw(st.integers(1, len(left[at])))
        first = {"call_id": f"call_{at}", "name": "tool"} if at not in begun else {}
        begun.add(at)
        pieces.append(argument(at, left[at][:size], **first))
        left[at] = left[at][size:]
        left = {i: text for i, text in left.items() if text}
    content = assembled(await events_of([*pieces, piece_of({}, "tool_calls"), closing()]))["content"]
    assert {block["id"]: block["input"] for block in content} == {
        f"call_{at}": text for at, text in enumerate(arguments)
    }
