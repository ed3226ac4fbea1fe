"""The headers that every reply has: the request's id, how long it took, and what is left of a key's limits."""

from collections.abc import Callable
from typing import Any

import pytest
from openai import AsyncOpenAI, BadRequestError

from serve_graph.access.limits.bucket import shown_duration
from serve_graph.cascade.fakes import FakeEmbedder, FakeEngine
from serve_graph.errors import EngineError

Endpoints = Callable[..., Any]
CHAT = "/v1/chat/completions"
HELLO: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}
KEY = {"authorization": "Bearer team"}
EVERY: list[tuple[str, str, dict[str, Any], int]] = [
    ("POST", CHAT, {"json": HELLO}, 200),
    ("POST", CHAT, {"json": HELLO | {"stream": True}}, 200),
    ("POST", "/v1/responses", {"json": {"model": "auto", "input": "x", "stream": True}}, 200),
    ("POST", "/v1/completions", {"json": {"model": "auto", "prompt": "x"}}, 200),
    ("POST", "/v1/embeddings", {"json": {"model": "auto", "input": "x"}}, 200),
    ("POST", CHAT, {"json": HELLO | {"temperature": 9}}, 400),
    ("POST", CHAT, {"json": HELLO | {"model": "gpt-17"}}, 404),
    ("POST", CHAT, {"content": b"x" * 5000}, 413),
    ("POST", CHAT, {"json": HELLO, "headers": {"content-encoding": "lzma"}}, 415),
    ("POST", CHAT, {"json": HELLO | {"model": "frontier"}}, 503),
    ("POST", CHAT, {"json": HELLO | {"model": "broken"}}, 500),
    ("GET", "/v1/models", {}, 200),
    ("GET", "/v1/models/auto", {}, 200),
    ("GET", "/v1/decisions/x", {}, 404),
    ("GET", "/healthz", {}, 200),
    ("HEAD", "/healthz", {}, 200),
    ("GET", "/readyz", {}, 200),
    ("GET", "/metrics", {}, 200),
    ("GET", "/nowhere", {}, 404),
    ("GET", CHAT, {}, 405),
]


@pytest.mark.parametrize(("method", "path", "how", "status"), EVERY)
async def test_every_reply_says_its_id_and_how_long_it_took(
    endpoint: Endpoints, method: str, path: str, how: dict[str, Any], status: int
) -> None:
    at = endpoint(frontier=FakeEngine(error=EngineError("dead")), embedder=FakeEmbedder())
    at.context.engines["broken"] = FakeEngine(error=ZeroDivisionError("a bug"))
    headers = {"x-request-id": "req-7"} | how.pop("headers", {})
    async with at.client() as client:
        reply = await client.request(method, path, headers=headers, **how)
    assert reply.status_code == status, reply.text
    assert reply.headers.get_list("x-request-id") == ["req-7"]
    assert int(reply.headers["openai-processing-ms"]) >= 0


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/models"), ("POST", CHAT)])
async def test_a_refusal_for_want_of_a_key_has_them_too(endpoint: Endpoints, method: str, path: str) -> None:
    async with endpoint(secrets=("team",)).client() as client:
        reply = await client.request(method, path, headers={"x-request-id": "req-7"})
    assert (reply.status_code, reply.headers["x-request-id"]) == (401, "req-7")
    assert int(reply.headers["openai-processing-ms"]) >= 0


@pytest.mark.parametrize("given", ["req-7", "0af7651916cd43dd8448eb211c80319c", "a:b/c+d=e@f~g.h_i", "x" * 128])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_clients_id_is_kept_in_the_record(endpoint: Endpoints, given: str, stream: bool) -> None:
    at = endpoint()
    async with at.client() as client:
        reply = await client.post(CHAT, json=HELLO | {"stream": stream}, headers={"x-request-id": given})
        told = (await client.get(f"/v1/decisions/{at.record.id}")).json()
    assert reply.headers["x-request-id"] == given
    assert at.record.evidence["request_id"] == given
    assert f"Request id: {given}." in told["explanation"]


@pytest.mark.parametrize("given", [None, "", "x" * 129, "a b", "a\tb", "a,b", "<script>", 'a"b', "naïve"])
async def test_an_id_that_is_none_is_replaced(endpoint: Endpoints, given: str | None) -> None:
    at = endpoint()
    headers = {} if given is None else {"x-request-id": given.encode("latin-1")}
    async with at.client() as client:
        first = await client.post(CHAT, json=HELLO, headers=headers)
        second = await client.post(CHAT, json=HELLO, headers=headers)
    made = [reply.headers["x-request-id"] for reply in (first, second)]
    assert made == [record.evidence["request_id"] for record in at.sink.records]
    assert all(name.startswith("req_") for name in made)
    assert made[0] != made[1]


async def test_embeddings_keep_the_id_as_well(endpoint: Endpoints) -> None:
    at = endpoint(embedder=FakeEmbedder())
    async with at.client() as client:
        body = {"model": "auto", "input": "a"}
        await client.post("/v1/embeddings", json=body, headers={"x-request-id": "req-7"})
    assert at.record.evidence["request_id"] == "req-7"


async def test_openais_client_reads_the_id(endpoint: Endpoints) -> None:
    at = endpoint()
    async with at.client() as http:
        client = AsyncOpenAI(api_key="none", base_url="http://test/v1", http_client=http, max_retries=0)
        assert (await client.chat.completions.create(**HELLO))._request_id == at.record.evidence["request_id"]
        with pytest.raises(BadRequestError) as caught:
            await client.chat.completions.create(**HELLO, temperature=9)
    assert str(caught.value.request_id).startswith("req_")


async def test_where_ray_serve_adds_the_id_it_is_not_there_twice(endpoint: Endpoints) -> None:
    at = endpoint(names_requests=False)
    async with at.client() as client:
        reply = await client.post(CHAT, json=HELLO, headers={"x-request-id": "req-7"})
    assert "x-request-id" not in reply.headers
    assert at.record.evidence["request_id"] == "req-7"


async def test_a_key_with_limits_is_told_what_is_left_of_them(endpoint: Endpoints) -> None:
    at = endpoint(secrets=("team",), limits={"requests_per_min": 2, "tokens_per_min": 600})
    async with at.client() as client:
        replies = [await client.post(CHAT, json=HELLO | {"stream": n == 1}, headers=KEY) for n in range(3)]
        listed = await client.get("/v1/models", headers=KEY)
    assert [reply.status_code for reply in replies] == [200, 200, 429]
    assert [reply.headers["x-ratelimit-limit-requests"] for reply in replies] == ["2"] * 3
    assert [reply.headers["x-ratelimit-remaining-requests"] for reply in replies] == ["1", "0", "0"]
    assert float(replies[0].headers["x-ratelimit-reset-requests"].removesuffix("s")) == pytest.approx(30, abs=5)
    assert replies[0].headers["x-ratelimit-limit-tokens"] == "600"
    assert replies[2].headers["retry-after"]
    assert "x-ratelimit-limit-requests" not in listed.headers


async def test_without_limits_nothing_is_said_of_them(endpoint: Endpoints) -> None:
    async with endpoint(secrets=("team",)).client() as client:
        reply = await client.post(CHAT, json=HELLO, headers=KEY)
    assert not [name for name in reply.headers if name.startswith("x-ratelimit")]


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0s"), (-1, "0s"), (0.0174, "0.017s"), (12.5, "12.5s"), (60, "1m0s"), (372, "6m12s")]
)
def test_durations_are_written_as_openai_writes_them(seconds: float, shown: str) -> None:
    assert shown_duration(seconds) == shown
