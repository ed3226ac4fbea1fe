"""The echo server replays what an API sent, byte for byte, to whoever asks and however."""

import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from serve_graph.engines.echo.scripted import send_scripted
from serve_graph.engines.echo.server import EchoServer

PATHS = ["/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/embeddings", "/anything"]


@pytest.fixture
async def upstream() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=EchoServer())
    async with httpx.AsyncClient(transport=transport, base_url="http://upstream") as client:
        yield client


async def replies(upstream: httpx.AsyncClient, *script: Any, path: str = PATHS[0], count: int = 1) -> Any:
    assert (await upstream.put("/script", json=list(script))).status_code == 200
    got = [await upstream.post(path, json={"messages": []}) for _ in range(count)]
    return got[0] if count == 1 else got


@pytest.mark.parametrize("path", PATHS)
async def test_scripted_reply_answers_any_path(upstream: httpx.AsyncClient, path: str) -> None:
    reply = await replies(upstream, {"json": {"a": [1]}, "status": 418, "headers": {"X-Of": "api"}}, path=path)
    assert (reply.status_code, reply.json(), reply.headers["x-of"]) == (418, {"a": [1]}, "api")
    assert reply.headers["content-type"] == "application/json"
    last = (await upstream.get("/script")).json()["last"]
    assert (last["path"], last["body"]) == (path, {"messages": []})


async def test_raw_text_keeps_its_content_type(upstream: httpx.AsyncClient) -> None:
    reply = await replies(upstream, {"raw": "<p>no</p>", "ct": "text/html", "status": 502})
    assert (reply.status_code, reply.text, reply.headers["content-type"]) == (502, "<p>no</p>", "text/html")


async def test_events_are_sent_as_written(upstream: httpx.AsyncClient) -> None:
    reply = await replies(upstream, {"events": [{"a": 1}, ": comment\r\n\r\n", 0.0, "data: [DONE]\n\n"]})
    assert reply.text == 'data: {"a": 1}\n\n: comment\r\n\r\ndata: [DONE]\n\n'
    assert reply.headers["content-type"] == "text/event-stream"


async def test_entries_repeat_and_come_in_order_and_then_all_is_well(upstream: httpx.AsyncClient) -> None:
    got = await replies(upstream, {"json": 1, "times": 2}, {"fault": "status", "status": 500}, {"json": 2}, count=5)
    assert [reply.status_code for reply in got] == [200, 200, 500, 200, 200]
    assert [reply.json() for reply in got[:2]] + [got[3].json()] == [1, 1, 2]
    assert got[4].json()["object"] == "chat.completion"


async def test_reply_may_pause_and_come_in_small_packets() -> None:
    packets: list[bytes] = []

    async def send(message: Any) -> None:
        packets.append(message.get("body", b""))

    started = time.perf_counter()
    await send_scripted({"events": [{"a": 1}, {"b": 2}], "split": 5, "pause_s": 0.02}, send)
    assert time.perf_counter() - started >= 0.04
    assert max(map(len, packets)) == 5
    assert b"".join(packets) == b'data: {"a": 1}\n\ndata: {"b": 2}\n\n'


@pytest.mark.parametrize(
    "script",
    [
        {},
        [5],
        [{}],
        [{"fault": "unheard-of"}],
        [{"json": 1, "raw": "x"}],
        [{"json": 1, "stats": 5}],
        [{"events": "x"}],
    ],
    ids=str,
)
async def test_script_that_is_none_is_refused_with_the_reason(upstream: httpx.AsyncClient, script: Any) -> None:
    reply = await upstream.put("/script", json=script)
    assert reply.status_code == 400
    assert reply.json()["error"]["message"]


async def test_embeddings_are_served_without_a_script(upstream: httpx.AsyncClient) -> None:
    reply = await upstream.post("/v1/embeddings", json={"input": ["a", "b"]})
    assert len(reply.json()["data"]) == 2
