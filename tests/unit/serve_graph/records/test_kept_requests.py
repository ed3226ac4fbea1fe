"""What is kept of a request beside its text: enough to ask it again, and nothing that redaction would have removed."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_models.types import Action, Query
from serve_graph.cascade.fakes import FakeJudge
from serve_graph.config.records import RecordsConfig
from serve_graph.protocol.requests import ChatRequest, chat_query, parse_request
from serve_graph.records.kept_requests import BESIDE, NOT_TEXT, REDACTED_OTHERWISE, kept_request
from serve_graph.records.maintenance import REDACTED, answer_keeper, prompt_keeper

DIGITS = prompt_keeper(RecordsConfig(keep_prompts=True, redact=(re.compile(r"\d{4,}"),)))
ACROSS = prompt_keeper(RecordsConfig(keep_prompts=True, redact=(re.compile(r"my name is\s+\w+"),)))
TOOL = {
    "type": "function",
    "function": {"name": "pay", "description": "Pays a bill.", "parameters": {"type": "object"}},
}


def kept(keep: Callable[[str], str | None] = DIGITS, **fields: Any) -> dict[str, Any]:
    body = {"model": "auto", "messages": [{"role": "user", "content": "hello"}], **fields}
    query = chat_query(parse_request(ChatRequest, json.dumps(body).encode()))
    text = keep(query.text)
    assert text is not None
    return kept_request(query, text, keep)


def said(*texts: Any) -> list[dict[str, Any]]:
    return [
        {"role": role, "content": text} for role, text in zip(("system", "user", "assistant"), texts, strict=False)
    ]


def test_what_decides_the_answer_is_kept_and_nothing_else() -> None:
    found = kept(messages=said("Be brief.", "Why?"), temperature=0.7, stop=["END"], max_tokens=9, tools=[TOOL],
                 tool_choice="auto", response_format={"type": "json_object"}, seed=4, n=2, stream=True, user="anna",
                 metadata={"card": "secret"}, safety_identifier="anna", store=True, top_p=None)  # fmt: skip
    assert found["messages"] == said("Be brief.", "Why?")
    assert found["parameters"] == {"temperature": 0.7, "stop": ["END"], "max_tokens": 9, "tools": [TOOL],
                                   "tool_choice": "auto", "response_format": {"type": "json_object"}}  # fmt: skip


def test_messages_are_redacted_one_by_one() -> None:
    parts = [{"type": "text", "text": "card 12345"}, {"type": "text", "text": "please"}]
    found = kept(messages=said("Never say 99999.", parts))
    assert found["messages"][0]["content"] == f"Never say {REDACTED}."
    assert found["messages"][1]["content"] == [parts[0] | {"text": f"card {REDACTED}"}, parts[1]]
    assert not re.search(r"\d{4,}", json.dumps(found))


CALL = {"id": "c1", "type": "function", "function": {"name": "pay", "arguments": '{"card": 12345}'}}


@pytest.mark.parametrize(
    "asked",
    [
        {"stop": ["12345"]},
        {"tools": [TOOL | {"function": {"name": "pay", "description": "Card 12345"}}]},
        {"tools": [TOOL | {"function": {"name": "pay", "parameters": {"12345": 1}}}]},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"const": "12345"}}}},
        {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": None, "tool_calls": [CALL]}]},
        {"messages": [{"role": "user", "content": "?", "name": "12345"}]},
    ],
    ids=["stop", "description", "key", "schema", "arguments", "name"],
)
def test_a_request_that_redaction_changes_elsewhere_is_not_kept(asked: dict[str, Any]) -> None:
    assert kept(**asked) == {"not_kept": REDACTED_OTHERWISE}


def test_a_rule_that_matches_across_messages_keeps_none_of_them() -> None:
    assert kept(ACROSS, messages=said("my name is", "Anna")) == {"not_kept": REDACTED_OTHERWISE}
    assert kept(ACROSS, messages=said("my name is Anna", "so?"))["messages"][0]["content"] == REDACTED


def test_images_are_not_kept() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    assert kept(messages=said("Look.", [image, {"type": "text", "text": "What is it?"}])) == {"not_kept": NOT_TEXT}


def test_a_completion_is_kept_as_one_message() -> None:
    query = Query.from_prompt("call 12345")
    assert kept_request(query, DIGITS(query.text) or "", DIGITS)["messages"] == [
        {"role": "user", "content": f"call {REDACTED}"}
    ]


@given(st.lists(st.text(alphabet="a1 \n", max_size=12), min_size=1, max_size=3))
def test_no_rule_that_the_text_obeys_is_broken_by_what_is_kept(texts: list[str]) -> None:
    found = kept(messages=[{"role": "user", "content": text} for text in texts])
    contents = [message["content"] for message in found.get("messages", ())]
    assert not any(re.search(r"\d{4,}", text) for text in contents)
    assert not contents or "\n".join(contents) == DIGITS("\n".join(texts))


async def test_a_record_holds_the_request_only_where_prompts_are_kept(endpoint: Callable[..., Any]) -> None:
    at = endpoint(keep_prompt=DIGITS)
    reply = await at.chat(content="card 12345", temperature=0.5)
    assert "12345" not in json.dumps(at.record.evidence)
    assert at.record.prompt == f"card {REDACTED}"
    assert at.record.evidence["asked"]["parameters"] == {"temperature": 0.5}
    assert "asked" not in reply.text
    plain = endpoint()
    await plain.chat(content="card 12345")
    assert "asked" not in plain.record.evidence
    off = endpoint(keep_prompt=prompt_keeper(RecordsConfig()))
    await off.chat(content="card 12345")
    assert "asked" not in off.record.evidence


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_is_kept_with_its_prompt_redacted_alike(endpoint: Callable[..., Any], stream: bool) -> None:
    config = RecordsConfig(keep_prompts=True, redact=(re.compile("says"),))
    at = endpoint(keep_prompt=prompt_keeper(config), keep_answer=answer_keeper(config))
    await at.chat(stream=stream)
    assert at.record.evidence["answer"] == "cheap [redacted]"
    for off in (RecordsConfig(), RecordsConfig(keep_prompts=True, keep_answers=False)):
        at = endpoint(keep_answer=answer_keeper(off))
        await at.chat(stream=stream)
        assert "answer" not in at.record.evidence


@pytest.mark.parametrize("stream", [False, True])
async def test_a_rejected_answer_is_kept_beside_the_shown_one_redacted_alike(
    endpoint: Callable[..., Any], stream: bool
) -> None:
    config = RecordsConfig(keep_prompts=True, redact=(re.compile("says"),))
    keepers = {"keep_prompt": prompt_keeper(config), "keep_answer": answer_keeper(config)}
    at = endpoint(judge=FakeJudge(Action.ESCALATED), **keepers)
    await at.chat(stream=stream)
    [beside] = at.record.evidence[BESIDE]
    cheap = next(line for line in at.record.calls if line.tier == "cheap")
    assert (beside["tier"], beside["answer"], beside["finish_reason"]) == ("cheap", "cheap [redacted]", "stop")
    assert beside["usage"] == [cheap.usage.prompt_tokens, cheap.usage.completion_tokens, cheap.usage.cached_tokens]
    assert at.record.evidence["answer"] == "frontier [redacted]"
    for plain in (
        endpoint(**keepers),  # an accepted answer has none beside it
        endpoint(judge=FakeJudge(Action.ESCALATED), keep_prompt=keepers["keep_prompt"]),
    ):
        await plain.chat(stream=stream)
        assert BESIDE not in plain.record.evidence


def test_answers_are_never_kept_without_their_prompts() -> None:
    with pytest.raises(ValueError, match="keep_answers needs keep_prompts"):
        RecordsConfig(keep_answers=True)
