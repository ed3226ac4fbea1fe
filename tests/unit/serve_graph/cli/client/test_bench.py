"""The load generator's eye for what is wrong."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from serve_graph.cli import app
from serve_graph.cli.client import bench
from serve_graph.cli.client.bench import Load, read_reply, run_load
from serve_graph.errors import error_body

FACTS = {"decision": "dec-1", "tier": "cheap", "outcome": "accepted"}
HEADERS = {f"x-serve-graph-{name}": value for name, value in FACTS.items()}
HEAD = {"id": "chatcmpl-1", "created": 1, "model": "cheap"}


def whole(**changes: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}
    reply = HEAD | {"object": "chat.completion", "choices": [choice], "serve_graph": FACTS}
    return json.dumps(reply | changes).encode()


def streamed(*finishes: str | None, end: str = "data: [DONE]\n\n") -> bytes:
    chunks: list[dict[str, Any]] = [
        HEAD
        | {
            "object": "chat.completion.chunk",
            "choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": reason}],
        }
        for reason in finishes
    ]
    chunks.append(HEAD | {"object": "chat.completion.chunk", "choices": [], "serve_graph": FACTS})
    return (": keep-alive\n\n" + "".join(f"data: {json.dumps(c)}\n\n" for c in chunks) + end).encode()


def test_good_replies_pass() -> None:
    assert read_reply(200, HEADERS, whole(), False) == ("200", FACTS)
    assert read_reply(200, {}, streamed(None, "stop"), True) == ("200", FACTS)
    assert read_reply(503, {}, json.dumps(error_body("no", "x")).encode(), False) == ("503", None)
    broken = b"data: " + json.dumps(error_body("no", "x")).encode() + b"\n\n"
    assert read_reply(200, {}, broken, True) == ("stream broken", None)


def test_chunks_without_choices_are_legal_wherever_they_stand() -> None:
    extra = b"data: " + json.dumps(HEAD | {"object": "chat.completion.chunk", "choices": []}).encode() + b"\n\n"
    content = extra + streamed(None, "stop", end="") + extra + b"data: [DONE]\n\n"
    assert read_reply(200, {}, content, True) == ("200", FACTS)


@pytest.mark.parametrize(
    ("status", "headers", "content", "stream"),
    [
        (200, {}, whole(), False),
        (200, HEADERS, whole(choices=None), False),
        (200, HEADERS, b"<html>", False),
        (500, HEADERS, b'{"detail": "oops"}', False),
        (200, {}, streamed(None, None), True),
        (200, {}, streamed("stop", "stop"), True),
        (200, {}, streamed("stop", end=""), True),
        (200, {}, streamed("stop").replace(b'"serve_graph"', b'"other"'), True),
        (200, {}, streamed("stop") + b"data: [DONE]\n\n", True),
        (200, {}, json.dumps(error_body("no", "x")).encode(), True),
        (200, {}, b"data: " + json.dumps(error_body("no", "x")).encode() + b"\n\ndata: [DONE]\n\n", True),
    ],
)
def test_wrong_replies_are_seen(status: int, headers: dict[str, str], content: bytes, stream: bool) -> None:
    with pytest.raises((ValueError, KeyError)):
        read_reply(status, headers, content, stream)


def test_bench_shows_the_key_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        shown.append(request.headers["authorization"])
        return httpx.Response(200, content=whole(), headers=HEADERS)

    client = httpx.AsyncClient
    monkeypatch.setenv("SERVE_GRAPH_KEY", "sg-x")
    monkeypatch.setattr(
        bench.httpx,
        "AsyncClient",
        lambda **given: client(transport=httpx.MockTransport(answer), headers=given["headers"]),
    )
    made = CliRunner().invoke(app, ["bench", "--requests", "2", "--stream-share", "0"])
    assert (made.exit_code, shown) == (0, ["Bearer sg-x"] * 2)


def test_every_request_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        prompt = body["messages"][0]["content"]
        if prompt == "die":
            raise httpx.ReadError("reset")
        if prompt == "bad":
            return httpx.Response(200, content=b"{}")
        return httpx.Response(200, content=streamed("stop") if body["stream"] else whole(), headers=HEADERS)

    client = httpx.AsyncClient
    monkeypatch.setattr(
        bench.httpx,
        "AsyncClient",
        lambda **given: client(transport=httpx.MockTransport(answer), headers=given["headers"]),
    )
    found = asyncio.run(run_load(Load("http://x", ["good", "die", "bad", "good"], 40, 4, stream_share=0.5)))
    figures = found.figures()
    assert figures["requests"] == 40
    assert figures["statuses"] == {"200": 30, "no reply": 10}
    assert figures["malformed"] == 20
    assert len(found.decisions) == 20


def test_streams_ask_for_a_mode_and_their_first_words_are_told_apart_by_outcome(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(json.loads(request.content).get("serve_graph"))
        return httpx.Response(200, content=streamed("stop"), headers=HEADERS)

    client = httpx.AsyncClient
    monkeypatch.setattr(
        bench.httpx,
        "AsyncClient",
        lambda **given: client(transport=httpx.MockTransport(answer), headers=given["headers"]),
    )
    words = ["bench", "--requests", "3", "--stream-share", "1"]
    made = CliRunner().invoke(app, [*words, "--stream-mode", "prefix"])
    assert made.exit_code == 0
    assert "  accepted by cheap:" in made.stdout
    assert CliRunner().invoke(app, words).exit_code == 0
    assert asked == [{"stream": "prefix"}] * 3 + [None] * 3
    assert CliRunner().invoke(app, [*words, "--stream-mode", "late"]).exit_code == 2
