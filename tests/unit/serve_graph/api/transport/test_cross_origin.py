"""Which web pages may send requests and read the replies, with access keys and without."""

from collections.abc import Callable
from typing import Any

import pytest

from serve_graph.cascade.fakes import FakeEngine
from serve_graph.errors import EngineError, SaturatedError

Endpoints = Callable[..., Any]
PATH = "/v1/chat/completions"
HELLO: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}
APPS = [
    ("http://localhost:*", "http://localhost:3000"),
    ("http://localhost:*", "http://localhost"),
    ("https://chat.example.com", "https://chat.example.com"),
    ("https://*.example.com", "https://chat.example.com"),
    ("vscode-webview://*", "vscode-webview://1a2b3c-4d5e"),
    ("chrome-extension://abcdefgh", "chrome-extension://abcdefgh"),
    ("moz-extension://*", "moz-extension://5f6a-77"),
    ("app://obsidian.md", "app://obsidian.md"),
    ("tauri://localhost", "tauri://localhost"),
]


def preflight(origin: str, method: str = "POST") -> dict[str, str]:
    asked = "authorization,content-type,x-stainless-os"
    headers = {"origin": origin, "access-control-request-method": method, "access-control-request-headers": asked}
    return headers | {"access-control-request-private-network": "true"}


@pytest.mark.parametrize("secrets", [(), ("team",)], ids=["without keys", "with keys"])
@pytest.mark.parametrize(("listed", "origin"), APPS)
async def test_a_listed_page_is_answered_and_may_read_the_answer(
    endpoint: Endpoints, listed: str, origin: str, secrets: tuple[str, ...]
) -> None:
    at = endpoint(cors={"origins": [listed]}, secrets=secrets)
    key = {"authorization": "Bearer team"} if secrets else {}
    async with at.client() as client:
        asked = await client.options(PATH, headers=preflight(origin))  # a preflight carries no key
        reply = await client.post(PATH, json=HELLO, headers={"origin": origin} | key)
    assert asked.status_code == 200
    assert asked.headers["access-control-allow-origin"] == origin
    assert "x-stainless-os" in asked.headers["access-control-allow-headers"]
    assert "POST" in asked.headers["access-control-allow-methods"]
    assert asked.headers["access-control-allow-private-network"] == "true"
    assert (reply.status_code, reply.headers["access-control-allow-origin"]) == (200, origin)
    assert "x-serve-graph-decision" in reply.headers["access-control-expose-headers"]
    assert "Origin" in reply.headers["vary"]


@pytest.mark.parametrize(
    ("listed", "origin"),
    [
        ("http://localhost:*", "http://localhost.evil.example"),
        ("http://localhost:*", "http://localhost:3000.evil.example"),
        ("http://localhost:*", "https://localhost:3000"),
        ("https://*.example.com", "https://example.com"),
        ("https://*.example.com", "https://chat.example.com.evil.org"),
        ("https://*.example.com", "https://evil.org/.example.com"),
        ("https://chat.example.com", "https://chat.example.com:8443"),
        ("app://obsidian.md", "app://obsidianxmd"),
        ("vscode-webview://*", "https://evil.example"),
        ("app://obsidian.md", "null"),
    ],
)
async def test_any_other_page_is_refused_and_reads_nothing(endpoint: Endpoints, listed: str, origin: str) -> None:
    async with endpoint(cors={"origins": [listed]}).client() as client:
        asked = await client.options(PATH, headers=preflight(origin))
        reply = await client.post(PATH, json=HELLO, headers={"origin": origin})
    assert (asked.status_code, asked.json()["error"]["code"]) == (400, "origin_not_allowed")
    assert "access-control-allow-origin" not in asked.headers
    assert "access-control-allow-origin" not in reply.headers
    assert reply.status_code == (200 if "//localhost:" in origin and "evil" not in origin else 403)


@pytest.mark.parametrize("origin", ["null", "https://anywhere.example"])
async def test_pages_that_anybody_can_make_need_a_key(endpoint: Endpoints, origin: str) -> None:
    cors = {"origins": ["null" if origin == "null" else "*"]}
    async with endpoint(cors=cors).client() as client:
        refused = await client.post(PATH, json=HELLO, headers={"origin": origin})
    async with endpoint(cors=cors, secrets=("team",)).client() as client:
        headers = {"origin": origin, "authorization": "Bearer team"}
        answered = await client.post(PATH, json=HELLO, headers=headers)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "origin_not_allowed")
    assert answered.status_code == 200
    assert answered.headers["access-control-allow-origin"] == ("null" if origin == "null" else "*")


@pytest.mark.parametrize(
    ("how", "status"),
    [
        ({"headers": {"authorization": "Bearer wrong"}}, 401),
        ({"json": HELLO | {"model": "no-such-model"}}, 404),
        ({"json": HELLO | {"temperature": 9}}, 400),
        ({"content": b"x" * 5000}, 413),
        ({"headers": {"content-encoding": "lzma"}}, 415),
        ({"json": HELLO | {"model": "frontier"}}, 503),
        ({"json": HELLO | {"model": "frontier", "stream": True}}, 503),
        ({"json": HELLO}, 500),
        ({"json": HELLO | {"stream": True}}, 500),
    ],
    ids=str,
)
async def test_every_error_can_be_read_by_the_page(endpoint: Endpoints, how: dict[str, Any], status: int) -> None:
    cheap, frontier = FakeEngine(error=ZeroDivisionError("a bug")), FakeEngine(error=EngineError("dead"))
    at = endpoint(cors={"origins": ["http://localhost:*"]}, secrets=("team",), cheap=cheap, frontier=frontier)
    headers = {"origin": "http://localhost:3000", "authorization": "Bearer team"} | how.get("headers", {})
    body = {"content": how["content"]} if "content" in how else {"json": how.get("json", HELLO)}
    async with at.client() as client:
        reply = await client.post(PATH, headers=headers, **body)
    assert (reply.status_code, set(reply.json())) == (status, {"error"})
    assert reply.headers["access-control-allow-origin"] == "http://localhost:3000"


async def test_a_page_may_read_when_to_come_back(endpoint: Endpoints) -> None:
    full = FakeEngine(error=SaturatedError("full", retry_after_s=3))
    async with endpoint(cors={"origins": ["http://localhost:*"]}, frontier=full).client() as client:
        headers = {"origin": "http://localhost:1"}
        reply = await client.post(PATH, json=HELLO | {"model": "frontier"}, headers=headers)
    assert (reply.status_code, reply.headers["retry-after"]) == (429, "3")
    assert "retry-after" in reply.headers["access-control-expose-headers"]


async def test_streams_can_be_read_by_the_page(endpoint: Endpoints) -> None:
    async with endpoint(cors={"origins": ["http://localhost:*"]}).client() as client:
        headers = {"origin": "http://localhost:3000"}
        reply = await client.post(PATH, json=HELLO | {"stream": True}, headers=headers)
    assert reply.text.endswith("data: [DONE]\n\n")
    assert reply.headers["access-control-allow-origin"] == "http://localhost:3000"


async def test_without_configuration_no_page_reads_anything(endpoint: Endpoints) -> None:
    async with endpoint().client() as client:
        asked = await client.options(PATH, headers=preflight("http://localhost:3000"))
        reply = await client.post(PATH, json=HELLO, headers={"origin": "http://localhost:3000"})
    assert asked.status_code == 405
    assert not [name for name in (*asked.headers, *reply.headers) if name.startswith("access-control")]
