"""Bodies that clients compress: undone within the bound, or refused with what is understood."""

import asyncio
import gzip
import json
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_graph.access.accounts import Accounts
from serve_graph.access.turns import LONG_S, Turns
from serve_graph.api.transport.content_encoding import MAX_MEMBERS, codings_of, decoded, offered
from serve_graph.errors import PayloadTooLargeError, RequestError

Endpoints = Callable[..., Any]
HELLO = json.dumps({"model": "auto", "messages": [{"role": "user", "content": "hello"}]}).encode()
PATHS = {
    "/v1/chat/completions": HELLO,
    "/v1/completions": b'{"model": "auto", "prompt": "hello"}',
    "/v1/responses": b'{"model": "auto", "input": "hello"}',
}


def bare_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def in_two_members(data: bytes) -> bytes:
    return gzip.compress(data[:7]) + gzip.compress(data[7:])


ENCODED: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "upper case": ("GZIP", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "gzip in two members": ("gzip", in_two_members),
    "deflate": ("deflate", zlib.compress),
    "bare deflate": ("deflate", bare_deflate),
    "identity": ("identity", bytes),
    "empty": ("", bytes),
    "gzip, then identity": ("gzip, identity", gzip.compress),
    "gzip, then deflate": ("gzip, deflate", lambda data: zlib.compress(gzip.compress(data))),
    "three times": ("gzip,gzip , X-Gzip", lambda data: gzip.compress(gzip.compress(gzip.compress(data)))),
}


async def sent(at: Any, body: bytes, encoding: str, path: str = "/v1/chat/completions") -> httpx.Response:
    headers = {"content-type": "application/json", "content-encoding": encoding}
    async with at.client() as client:
        reply: httpx.Response = await client.post(path, content=body, headers=headers)
    return reply


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("how", ENCODED)
async def test_an_encoded_body_is_answered_as_if_it_were_not(endpoint: Endpoints, how: str, path: str) -> None:
    encoding, encode = ENCODED[how]
    at = endpoint()
    reply = await sent(at, encode(PATHS[path]), encoding, path)
    assert reply.status_code == 200, reply.text
    assert at.context.engines["cheap"].queries[0].text == "hello"


async def test_codings_may_stand_in_several_headers(endpoint: Endpoints) -> None:
    headers = [("content-encoding", "gzip"), ("content-encoding", "deflate")]
    async with endpoint().client() as client:
        reply = await client.post("/v1/chat/completions", content=zlib.compress(gzip.compress(HELLO)), headers=headers)
    assert reply.status_code == 200


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "gzip, gzip"])
async def test_a_decompression_bomb_is_a_413_that_never_takes_the_memory(endpoint: Endpoints, encoding: str) -> None:
    body = b"0" * 50_000_000
    for coding in encoding.split(", "):
        body = gzip.compress(body) if coding == "gzip" else zlib.compress(body)
    at = endpoint(max_body_bytes=100_000)
    await at.chat()
    tracemalloc.start()
    try:
        reply = await sent(at, body, encoding)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (reply.status_code, reply.json()["error"]["code"]) == (413, "payload_too_large")
    assert peak < 2_000_000


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", HELLO),
        ("gzip", gzip.compress(HELLO)[:-5]),
        ("gzip", gzip.compress(HELLO) + b"more"),
        ("gzip", gzip.compress(HELLO)[:20] + b"\0" + gzip.compress(HELLO)[21:]),
        ("gzip", b""),
        ("gzip", gzip.compress(b"") * (MAX_MEMBERS + 1)),
        ("deflate", HELLO),
        ("deflate", zlib.compress(HELLO)[:-3]),
        ("deflate, gzip", gzip.compress(HELLO)),
    ],
    ids=["plain", "cut short", "followed", "changed", "nothing", "members", "not deflate", "deflate cut", "inner"],
)
async def test_a_corrupt_body_is_a_400(endpoint: Endpoints, encoding: str, body: bytes) -> None:
    reply = await sent(endpoint(max_body_bytes=1_000_000), body, encoding)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (400, "invalid_content_encoding", "content-encoding")


@pytest.mark.parametrize("encoding", ["compress", "gzip, lz4", "aes128gcm", "base64", ", ".join(["gzip"] * 5)])
async def test_an_unknown_encoding_is_a_415_that_names_what_is_understood(endpoint: Endpoints, encoding: str) -> None:
    reply = await sent(endpoint(), HELLO, encoding)
    assert (reply.status_code, reply.json()["error"]["code"]) == (415, "unsupported_content_encoding")
    assert reply.headers["accept-encoding"].startswith("gzip, deflate")
    assert "supported: gzip, deflate" in reply.json()["error"]["message"]


@pytest.mark.parametrize(("coding", "library"), [("br", "brotli"), ("zstd", "backports.zstd")])
async def test_a_library_that_is_installed_is_used_and_else_the_coding_is_refused(
    endpoint: Endpoints, coding: str, library: str
) -> None:
    if coding not in offered():
        assert (await sent(endpoint(), HELLO, coding)).status_code == 415
        return
    compress = pytest.importorskip(library).compress
    at = endpoint(max_body_bytes=100_000)
    assert (await sent(at, compress(HELLO), coding)).status_code == 200
    assert (await sent(at, compress(b"0" * 50_000_000), coding)).status_code == 413
    assert (await sent(at, compress(HELLO)[:-4], coding)).status_code == 400
    assert (await sent(at, HELLO, coding)).status_code == 400


@given(st.binary(max_size=2000), st.lists(st.sampled_from(["gzip", "deflate"]), max_size=4), st.integers(-5, 5))
def test_whatever_is_encoded_comes_back_or_exceeds_the_bound(data: bytes, codings: list[str], spare: int) -> None:
    body = data
    sizes = [len(data)]
    for coding in codings:
        body = gzip.compress(body) if coding == "gzip" else zlib.compress(body)
        sizes.append(len(body))
    limit = max(0, len(data) + spare)
    if not codings or max(sizes[:-1]) <= limit:
        assert decoded(body, tuple(codings), limit) == data
    else:
        with pytest.raises(PayloadTooLargeError):
            decoded(body, tuple(codings), limit)


@given(st.binary(max_size=200), st.sampled_from(["gzip", "deflate"]))
def test_whatever_is_sent_is_read_or_refused(data: bytes, coding: str) -> None:
    try:
        outcome: Any = decoded(data, codings_of([coding]), 1000)
    except RequestError as error:
        outcome = error.code
    assert isinstance(outcome, bytes) or outcome in ("invalid_content_encoding", "payload_too_large")


async def test_an_announced_length_over_the_bound_is_refused_before_it_is_read(endpoint: Endpoints) -> None:
    async def never() -> Any:
        await asyncio.Event().wait()
        yield b""

    async with endpoint().client() as client:
        headers = {"content-length": "5000"}
        reply = await client.post("/v1/chat/completions", content=never(), headers=headers)
    assert reply.status_code == 413


AS = {"authorization": "Bearer mallory", "content-type": "application/json"}
FEEDBACK = json.dumps({"decision": "dec-1", "kind": "thumbs", "value": "up"}).encode()


def who_worked(long_s: float) -> Accounts:
    """Accounts whose first piece of work beside the event loop takes `long_s` seconds, as its thread's clock says."""
    said = iter((0.0, long_s))
    return Accounts(turns=Turns(work_clock=lambda: next(said, long_s)))


async def never_sent() -> Any:
    await asyncio.Event().wait()
    yield b""


@pytest.mark.parametrize(("path", "plain"), [("/v1/chat/completions", HELLO), ("/v1/feedback", FEEDBACK)])
async def test_undoing_an_encoding_takes_a_keys_turn_and_makes_it_rest(
    endpoint: Endpoints, path: str, plain: bytes
) -> None:
    at = endpoint(secrets=("mallory", "alice"), accounts=who_worked(LONG_S))
    headers = {"content-encoding": "gzip"}
    async with at.client() as client:
        first = await client.post(path, content=gzip.compress(plain), headers=AS | headers)
        assert first.status_code != 429
        assert at.accounts.turns.resting_s("mallory") > 0
        again = await client.post(path, content=gzip.compress(plain), headers=AS | headers)
        assert again.status_code == 429
        assert int(again.headers["retry-after"]) >= 1
        assert (await client.post(path, content=plain, headers=AS)).status_code != 429
        other = await client.post(path, content=gzip.compress(plain), headers=headers | {"x-api-key": "alice"})
        assert other.status_code != 429


@pytest.mark.parametrize(
    "announced",
    [
        {"content-length": "70000"},
        {"content-encoding": "gzip"},
        {"content-encoding": "deflate", "content-length": "5"},
    ],
    ids=["large", "encoded", "encoded and small"],
)
async def test_a_resting_keys_body_is_refused_before_it_is_received(
    endpoint: Endpoints, announced: dict[str, str]
) -> None:
    at = endpoint(secrets=("mallory",), accounts=who_worked(LONG_S), max_body_bytes=100_000)
    async with at.client() as client:
        await client.post(
            "/v1/chat/completions", content=gzip.compress(HELLO), headers=AS | {"content-encoding": "gzip"}
        )
        reply = await asyncio.wait_for(
            client.post("/v1/chat/completions", content=never_sent(), headers=AS | announced), 20
        )
    assert (reply.status_code, reply.json()["error"]["code"]) == (429, "rate_limit_exceeded")


async def test_of_a_resting_keys_body_without_a_length_no_more_is_received_than_others_may_send(
    endpoint: Endpoints,
) -> None:
    received = 0

    async def without_end() -> Any:
        nonlocal received
        while True:
            received += 10_000
            yield b" " * 10_000

    at = endpoint(secrets=("mallory",), accounts=who_worked(LONG_S), max_body_bytes=10_000_000)
    async with at.client() as client:
        await client.post(
            "/v1/chat/completions", content=gzip.compress(HELLO), headers=AS | {"content-encoding": "gzip"}
        )
        reply = await client.post("/v1/chat/completions", content=without_end(), headers=AS)
    assert reply.status_code == 429
    assert received < 100_000


async def test_an_encoding_is_undone_and_parsed_in_one_turn(endpoint: Endpoints) -> None:
    at = endpoint(secrets=("mallory",), accounts=who_worked(LONG_S), max_body_bytes=1_000_000)
    long = HELLO.replace(b"hello", b"hello " * 20_000)
    async with at.client() as client:
        headers = AS | {"content-encoding": "gzip"}
        reply = await client.post("/v1/chat/completions", content=gzip.compress(long), headers=headers)
    assert reply.status_code == 200
