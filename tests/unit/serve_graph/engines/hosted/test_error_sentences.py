"""What an API says of the tier's own (accounts, keys, addresses) stays in the log: callers are told our sentence."""

import json
from dataclasses import asdict
from typing import Any

import pytest

from serve_graph.engines.error_meanings import ErrorFault
from serve_graph.engines.hosted.error_bodies import ApiError
from serve_graph.engines.hosted.error_sentences import open_word, sentence_of, unreadable_sentence
from tests.fixtures.upstream import ROUTES

Upstream = Any  # tests.fixtures.upstream.Upstream

NAMES = {
    "an organisation": ("Rate limit reached for m in organization org-Ab12Cd34Ef on tokens per min", "Ab12Cd34Ef"),
    "an organisation by name": ("Requests of organization Acme Holdings exceed its rate", "Acme"),
    "a project": ("Project `proj_Xy98Zw76` exceeded its limit", "Xy98Zw76"),
    "an account": ("The account 123456789012 is over its rate", "123456789012"),
    "a key": ("Rate limit of key sk-proj-abcd1234efgh exceeded", "abcd1234"),
    "a masked key": ("The value AKIA****WXYZ was throttled", "WXYZ"),
    "an e-mail": ("Too many calls by ops@acme.example, slow down", "ops@acme"),
    "an address": ("upstream 10.0.12.7:8080 refused the connection", "10.0.12.7"),
    "an internal URL": ("cannot reach http://llm-gw.prod.acme.internal/v1", "llm-gw"),
    "an internal host": ("no healthy upstream at vllm-0.serving.svc.cluster.local", "vllm-0"),
    "a port": ("dial tcp llm-backend:9000 failed", "llm-backend"),
    "a path": ("cannot open /mnt/models/acme-7b/config.json", "acme-7b"),
    "a resource": ("arn:aws:bedrock:eu-west-1:123456789012:model/x is busy", "bedrock"),
    "a tenant": ("tenant 3f2b1c4d-1111-2222-3333-444455556666 is throttled", "3f2b1c4d"),
}
STATUSES = {400: False, 422: False, 401: True, 403: True, 429: True, 500: True, 503: True, 504: True}
"""Statuses, and whether the log holds all that was said: of a request it may quote the prompt."""
CHAT = "/v1/chat/completions"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("status", [400, 429, 500])
def test_words_that_name_something_of_the_tiers_own_are_not_passed_on(
    name: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    said, secret = NAMES[name]
    fault = {400: ErrorFault.REQUEST, 429: ErrorFault.BUSY, 500: ErrorFault.UNAVAILABLE}[status]
    told = sentence_of(ApiError(said), fault, status, "https://api.example/v1")
    assert secret not in told
    assert secret in caplog.text
    assert secret not in unreadable_sentence(f"{said} {{")


@pytest.mark.parametrize(
    "said",
    [
        "Input tokens exceed the configured limit of 1000 tokens.",
        "'user_location' is not a valid parameter of tools[0].function",
        "Unknown parameter: 'response_format.json_schema.strict'. See https://platform.openai.com/docs/api-reference",
        "Invalid value: 'x'. Supported values are: 'low', 'medium', and 'high'.",
        "max_tokens: 200000 > 8192, which is the maximum number of output tokens for claude-3-5-sonnet-20241022",
        "messages.1.content.0.image.source.base64: invalid base64 data",
        "Rate limit reached, please try again in 1.2 s",
        "Overloaded",
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.",
    ],
)
def test_words_about_the_request_are_passed_on(said: str, caplog: pytest.LogCaptureFixture) -> None:
    for fault in (ErrorFault.REQUEST, ErrorFault.BUSY):
        told = sentence_of(ApiError(said), fault, 400, "https://api.example/v1")
        assert told == said.replace("https://platform.openai.com/docs/api-reference", "[link]")
    assert caplog.text == ""


def test_codes_types_and_parameters_are_words_like_any_other() -> None:
    assert [open_word(word) for word in ("odd_code", "messages[0].content", "model_not_found", None)] == [
        "odd_code", "messages[0].content", "model_not_found", None,
    ]  # fmt: skip
    assert [open_word(word) for word in ("org-Ab12Cd34Ef", "10.0.12.7:80", "http://gw/v1", "gw.internal")] == [
        None
    ] * 4


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", STATUSES)
async def test_no_route_and_no_record_holds_what_an_api_says_of_the_tiers_own(
    upstream: Upstream, status: int, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    said = "; ".join(said for said, _ in NAMES.values())
    error = {"message": said, "type": "org-Ab12Cd34Ef", "code": "proj_Xy98Zw76", "param": "llm-gw.prod.acme.internal"}
    for path in ROUTES:
        upstream.plays({"json": {"error": error}, "status": status})
        reply = await upstream.ask(path, stream=stream)
        records = [asdict(record) for record in upstream.endpoint.sink.records]
        shown = reply.text + str(dict(reply.headers)) + json.dumps(records, default=str)
        assert [secret for _, secret in NAMES.values() if secret in shown] == [], path
        assert (reply.status_code >= 400, bool(records)) == (True, True)
    assert ("Acme" in caplog.text) >= STATUSES[status]
    assert "abcd1234efgh" not in caplog.text


async def test_nor_does_a_stream_that_breaks_or_an_embedding(upstream: Upstream) -> None:
    said = "; ".join(said for said, _ in NAMES.values())
    chunk = {"choices": [{"index": 0, "delta": {"content": "hi"}}]}
    upstream.plays({"events": [chunk, {"error": {"message": said, "code": 500}}]})
    ended = json.dumps(await upstream.events())
    assert "interrupted" in ended
    upstream.plays({"json": {"error": {"message": said}}, "status": 500})
    embedded = json.dumps(await upstream.tier.embed({"input": "x"}, 5.0), default=str)
    assert [secret for _, secret in NAMES.values() if secret in ended + embedded] == []
