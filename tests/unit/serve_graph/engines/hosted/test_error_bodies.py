"""What an API says of its errors is quoted, in whatever shape it says it: on one line, bounded and without keys."""

import json
from typing import Any

import pytest

from serve_graph.engines.hosted.error_bodies import MESSAGE_CHARS, clean, read_error_body

Upstream = Any  # tests.fixtures.upstream.Upstream

BODIES: dict[str, tuple[Any, str]] = {
    "object": ({"error": {"message": "the reason"}}, "the reason"),
    "text under error": ({"error": "the reason"}, "the reason"),
    "detail": ({"detail": "the reason"}, "the reason"),
    "fastapi": (
        {"detail": [{"loc": ["body", "n"], "msg": "too large"}, {"loc": ["body", "m"], "msg": "no"}]},
        "n: too large; m: no",
    ),
    "detail as an object": ({"detail": {"error": {"message": "the reason"}}}, "the reason"),
    "message": ({"message": "the reason"}, "the reason"),
    "message as an object": ({"message": {"detail": "the reason"}}, "the reason"),
    "errors": ({"errors": [{"message": "the reason"}, {"message": "another"}]}, "the reason; another"),
    "errors as text": ({"errors": ["the reason"]}, "the reason"),
    "a list": ([{"error": {"message": "the reason"}}], "the reason"),
    "a label beside the message": ({"statusCode": 400, "error": "Bad Request", "message": "the reason"}, "the reason"),
    "problem details": ({"type": "about:blank", "title": "Bad", "status": 400, "detail": "the reason"}, "the reason"),
    "json in the message": (
        {"error": {"message": 'upstream said {"error": {"message": "the reason"}}'}},
        "upstream said: the reason",
    ),
    "openrouter": (
        {"error": {"message": "Provider returned error", "metadata": {"raw": '{"error": {"message": "the reason"}}'}}},
        "the reason",
    ),
    "a fault": ({"fault": {"faultstring": "the reason"}}, "the reason"),
    "a string": ('"the reason"', "the reason"),
    "text": ("the reason", "the reason"),
    "lines": ("the\r\n  \x1b[31mreason\x00", "the [31mreason"),
    "a page": (
        "<!DOCTYPE html><html><head><title>502 Bad Gateway</title><style>p {}</style></head><body><p>nginx</p></body>",
        "502 Bad Gateway: nginx",
    ),
    "a page without a title": ("<html><body>Bad gateway &amp; more</body></html>", "Bad gateway & more"),
    "a key": ({"error": {"message": "bad key sk-proj-abcdefghijkl given"}}, "bad key *** given"),
    "nothing": ("", "no reason given"),
    "null": ("null", "no reason given"),
    "an empty object": ({}, "no reason given"),
    "a number": ("5", "no reason given"),
    "nulls": ({"error": {"message": None, "code": None}}, "no reason given"),
}


@pytest.mark.parametrize("name", BODIES)
def test_what_was_said_is_quoted(name: str) -> None:
    body, message = BODIES[name]
    assert read_error_body(body if isinstance(body, str) else json.dumps(body)).message == message


@pytest.mark.parametrize("status", [400, 422, 500, 503])
@pytest.mark.parametrize("name", ["object", "text under error", "detail", "message", "a list", "text", "a page"])
async def test_reasons_reach_the_caller(upstream: Upstream, name: str, status: int) -> None:
    body, message = BODIES[name]
    said = {"raw": body, "ct": "text/plain"} if isinstance(body, str) else {"json": body}
    upstream.plays(said | {"status": status})
    assert message in (await upstream.ask()).json()["error"]["message"]


@pytest.mark.parametrize("text", ["x" * 10**6, "<html>" + "<script>" * 10**5, "{" * 10**5, "[" * 10**5, "<" * 10**5])
def test_quotes_are_bounded_however_long_a_body_is(text: str) -> None:
    assert len(read_error_body(text).message) <= MESSAGE_CHARS
    assert len(clean(text)) <= MESSAGE_CHARS
