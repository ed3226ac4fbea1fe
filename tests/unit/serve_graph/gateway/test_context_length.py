import json
from typing import Any

import pytest

from router_models.types import Message, Query
from serve_graph.gateway.context_length import ATTACHMENT_TOKENS, IMAGE_TOKENS, prompt_tokens
from serve_graph.protocol.requests import ChatRequest, chat_query

WORDS = "w" * 10_000
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}


def tokens(messages: list[dict[str, Any]], **fields: Any) -> int:
    return prompt_tokens(chat_query(ChatRequest.model_validate({"model": "auto", "messages": messages, **fields})))


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


PLAIN = tokens([user("hello")])
CALLING = {"id": "c", "type": "function", "function": {"name": "f", "arguments": json.dumps({"text": WORDS})}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"description": WORDS}}}


@pytest.mark.parametrize(
    ("messages", "fields"),
    [
        ([user("hello"), {"role": "assistant", "content": None, "tool_calls": [CALLING]}], {}),
        ([user("hello"), {"role": "assistant", "content": None, "function_call": CALLING["function"]}], {}),
        ([user("hello"), {"role": "assistant", "content": "x", "reasoning_content": WORDS}], {}),
        ([user("hello"), {"role": "tool", "tool_call_id": "c", "content": WORDS}], {}),
        ([user("hello"), {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": WORDS}]}], {}),
        ([user("hello")], {"tools": [{"type": "function", "function": {"name": "f", "description": WORDS}}]}),
        ([user("hello")], {"response_format": SCHEMA}),
        ([user("hello")], {"chat_template_kwargs": {"documents": [WORDS]}}),
        ([user([{"type": "text", "text": WORDS}])], {}),
        ([user([{"type": "tool_result", "content": [{"type": "text", "text": WORDS}]}])], {}),
        ([user([{"type": "tool_result", "content": WORDS}])], {}),
        ([user([{"type": "image_url", "image_url": {"url": "x"}, "text": WORDS}])], {}),
    ],
)
def test_everything_a_model_may_be_shown_counts(messages: list[dict[str, Any]], fields: dict[str, Any]) -> None:
    assert tokens(messages, **fields) > PLAIN + 0.9 * len(WORDS) / 2.5


@pytest.mark.parametrize(
    ("part", "allowance"),
    [
        (IMAGE, IMAGE_TOKENS),
        ({"type": "input_image", "image_url": "https://example.com/x.png"}, IMAGE_TOKENS),
        ({"type": "input_audio", "input_audio": {"data": "A" * 100_000, "format": "wav"}}, ATTACHMENT_TOKENS),
        ({"type": "file", "file": {"file_data": "A" * 100_000}}, ATTACHMENT_TOKENS),
        ({"type": "video_url", "video_url": {"url": "https://example.com/x.mp4"}}, ATTACHMENT_TOKENS),
        ({"type": "hologram", "data": "A" * 100_000}, ATTACHMENT_TOKENS),
        ({"type": "tool_result", "content": [IMAGE]}, IMAGE_TOKENS),
    ],
)
@pytest.mark.parametrize("times", [1, 3])
def test_a_part_that_is_no_text_is_taken_for_an_allowance(part: dict[str, Any], allowance: int, times: int) -> None:
    found = tokens([user([{"type": "text", "text": "hello"}, *[part] * times])])
    assert times * allowance < found < PLAIN + times * allowance + 50


def test_numbers_are_settings_and_no_prompt() -> None:
    assert tokens([user("hello")], temperature=0.5, max_tokens=10_000, logit_bias={"1": 1.0}) == PLAIN


def test_a_query_without_a_body_counts_its_messages() -> None:
    assert prompt_tokens(Query((Message("user", "hello"),))) == PLAIN
