"""Keys as callers meet them: over HTTP, in OpenAI's shape."""

import itertools
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from serve_graph.access.refusals import RefusalDelays
from tests.unit.serve_graph.access.guarded import ELSEWHERE, HELLO, Guarded, error_of


async def test_a_key_lets_in_from_anywhere_and_is_named_in_the_record() -> None:
    at = Guarded([{"name": "team"}])
    assert (await at.ask("team")).status_code == 200
    assert at.sink.records[0].key == "team"


@pytest.mark.parametrize(
    ("key", "code"), [(None, "missing_api_key"), ("wrong", "invalid_api_key"), ("", "missing_api_key")]
)
async def test_without_the_right_key_it_is_401(key: str | None, code: str) -> None:
    at = Guarded([{"name": "team"}])
    response = await at.ask(key)
    error = error_of(response, 401)
    assert (error["type"], error["code"]) == ("invalid_request_error", code)
    assert response.headers["www-authenticate"] == "Bearer"
    assert at.sink.records == []
    assert "team" not in response.text


@pytest.mark.parametrize("path", ["/v1/messages", "/anthropic/v1/messages"])
async def test_keys_hold_for_anthropics_api_in_its_own_words(path: str) -> None:
    at = Guarded([{"name": "team", "requests_per_min": 1}, {"name": "auditor", "scopes": ["admin"]}])
    body = HELLO | {"max_tokens": 9}

    async def kind_of(key: str | None, **fields: Any) -> tuple[int, str]:
        named = {} if key is None else {"x_api_key": key}
        reply = await at.ask(None, path, body | fields, **named)
        return reply.status_code, reply.json().get("error", reply.json())["type"]

    assert await kind_of("wrong") == (401, "authentication_error")
    assert await kind_of(None) == (401, "authentication_error")
    assert await kind_of("auditor") == (403, "permission_error")
    assert await kind_of("team", model="frontier") == (403, "permission_error")
    assert (await at.ask("team", path, body)).headers["retry-after"] == "60"
    assert await kind_of("team") == (429, "rate_limit_error")
    at.now = 60.0
    assert await kind_of("team") == (200, "message")
    assert at.sink.records[0].key == "team"


@pytest.mark.parametrize("path", ["/anthropic/v1/decisions/x", "/anthropic//v1/decisions/x", "/anthropic/metrics"])
async def test_no_other_path_leads_past_a_keys_scopes(path: str) -> None:
    at = Guarded([{"name": "team"}])
    assert (await at.ask("team", path)).status_code in (403, 404)
    assert (await at.ask(None, path)).status_code == 401


async def test_a_key_may_come_as_x_api_key_everywhere_and_a_bearer_token_counts_first() -> None:
    at = Guarded([{"name": "team"}])
    assert (await at.ask(None, x_api_key="team")).status_code == 200
    assert (await at.ask(None, "/v1/models", x_api_key=" team ")).status_code == 200
    assert (await at.ask("team", x_api_key="wrong")).status_code == 200
    error_of(await at.ask("wrong", x_api_key="team"), 401)


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_health_needs_no_key(path: str) -> None:
    assert (await Guarded([{"name": "team"}]).ask(None, path)).status_code == 200


async def test_what_share_of_requests_is_covered_is_told_to_whoever_has_a_key() -> None:
    at = Guarded([{"name": "team"}])
    for stranger in (None, "wrong"):
        assert (await at.ask(stranger, "/readyz")).json() == {"status": "ready", "ready": True}
    assert (await at.ask("team", "/readyz")).json()["coverage"]["requests"] == 0
    assert (await at.ask(None, "/readyz", x_api_key="team")).json()["coverage"]["requests"] == 0


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "page.example", "page.example:8000"])
async def test_without_keys_this_machine_is_told_more_than_one_word_but_by_no_public_name(
    endpoint: Callable[..., Any], host: str
) -> None:
    async with endpoint().client() as client:
        told = (await client.get("/readyz", headers={"host": host})).json()
    word = {"status": "ready", "ready": True}
    assert told == (word if "example" in host else word | {"version": "router/1"})


@pytest.mark.parametrize("path", ["/v1/decisions/x", "/metrics", "/console", "/openapi.json", "/v1/models"])
async def test_everything_else_does(path: str) -> None:
    error_of(await Guarded([{"name": "team"}]).ask(None, path), 401)


async def test_decisions_and_metrics_are_for_admins() -> None:
    at = Guarded([{"name": "team"}, {"name": "boss", "scopes": ["use", "admin"]}])
    asked = await at.ask("team")
    path = f"/v1/decisions/{asked.headers['x-serve-graph-decision']}"
    for admin_only in (path, "/metrics"):
        assert error_of(await at.ask("team", admin_only), 403)["type"] == "permission_error"
        assert (await at.ask("boss", admin_only)).status_code == 200
    assert "thresholds" in (await at.ask("boss", path)).text


async def test_an_admin_key_alone_does_not_ask_questions() -> None:
    at = Guarded([{"name": "auditor", "scopes": ["admin"]}])
    error_of(await at.ask("auditor"), 403)
    assert (await at.ask("auditor", "/v1/models")).status_code == 200


@pytest.mark.parametrize("how", [{"body": HELLO | {"model": "frontier"}}, {"x_serve_graph_tier": "frontier"}])
async def test_choosing_a_tier_needs_the_force_scope(how: dict[str, Any]) -> None:
    at = Guarded([{"name": "team"}, {"name": "lab", "scopes": ["use", "force"]}])
    assert error_of(await at.ask("team", **how), 403)["code"] == "insufficient_permissions"
    answered = await at.ask("lab", **how)
    assert (answered.headers["x-serve-graph-outcome"], answered.headers["x-serve-graph-tier"]) == (
        "forced",
        "frontier",
    )


async def test_naming_the_tier_that_embeds_is_choosing_one() -> None:
    at = Guarded([{"name": "team"}, {"name": "lab", "scopes": ["use", "force"]}])
    body = {"model": "frontier", "input": "hello"}
    error_of(await at.ask("team", "/v1/embeddings", body), 403)
    error_of(await at.ask("lab", "/v1/embeddings", body), 404)  # it does not embed


async def test_without_keys_strangers_get_403(endpoint: Callable[..., Any]) -> None:
    async with endpoint().client(ELSEWHERE) as client:
        error_of(await client.post("/v1/chat/completions", json=HELLO), 403)


async def test_an_open_graph_lets_strangers_in_but_no_web_page_from_elsewhere(endpoint: Callable[..., Any]) -> None:
    async with endpoint(is_open=True).client(ELSEWHERE) as client:
        assert (await client.post("/v1/chat/completions", json=HELLO)).status_code == 200
        page = {"origin": "https://evil.example"}
        error_of(await client.post("/v1/chat/completions", json=HELLO, headers=page), 403)


async def test_an_open_graph_with_keys_asks_for_one() -> None:
    at = Guarded([{"name": "team"}], is_open=True)
    error_of(await at.ask(None), 401)


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://evil.example", 403),
        ("null", 403),
        ("http://[", 403),
        ("http://127.0.0.1.evil.example", 403),
        ("http://localhost:3000", 200),
        ("http://[::1]:8000", 200),
        ("http://127.0.0.1:8000", 200),
    ],
)
async def test_without_keys_a_web_page_from_elsewhere_is_refused(
    endpoint: Callable[..., Any], origin: str, status: int
) -> None:
    async with endpoint().client() as client:
        response = await client.post("/v1/chat/completions", json=HELLO, headers={"origin": origin})
    assert response.status_code == status


@pytest.mark.parametrize("path", ["/v1/decisions/dec-1", "/decisions/dec-1", "/metrics", "/v1/metrics/../../metrics"])
async def test_a_prefix_opens_no_administrators_door(endpoint: Any, path: str) -> None:
    at = endpoint(secrets=("a",), scopes=("use",))
    transport = httpx.ASGITransport(app=at.app, raise_app_exceptions=False, root_path="/prefix")
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        for headers in ({}, {"authorization": "Bearer a"}):
            reply = await client.get(f"/prefix{path}", headers=headers)
            assert reply.status_code == (403 if headers else 401)
        assert (await client.get("/prefix/v1/models", headers=headers)).status_code == 200


@pytest.mark.parametrize(
    ("name", "said", "status"),
    [
        ("x-forwarded-for", "203.0.113.9", 403),
        ("x-forwarded-for", "127.0.0.1, 203.0.113.9", 403),
        ("x-forwarded-for", "unknown", 403),
        ("x-real-ip", "203.0.113.9", 403),
        ("cf-connecting-ip", "2001:db8::1", 403),
        ("forwarded", "for=127.0.0.1;for=203.0.113.9", 403),
        ("forwarded", "proto=https;for=203.0.113.9", 403),
        ("forwarded", "proto=https;for=127.0.0.1", 200),
        ("forwarded", 'for="[2001:db8::1]:4711";proto=https', 403),
        ("forwarded", "for=_hidden", 403),
        ("x-forwarded-for", "127.0.0.1, ::1", 200),
        ("forwarded", 'for=127.0.0.1:4711;proto=http, for="[::1]"', 200),
    ],
)
async def test_without_keys_a_proxy_admits_nobody_of_another_machine(
    endpoint: Callable[..., Any], name: str, said: str, status: int
) -> None:
    async with endpoint().client() as client:
        reply = await client.get("/v1/models", headers={name: said})
        assert reply.status_code == status
        assert (await client.get("/healthz", headers={name: said})).status_code == 200
    async with endpoint(is_open=True).client() as client:
        assert (await client.get("/v1/models", headers={name: said})).status_code == 200
    async with endpoint(secrets=("a",)).client() as client:
        assert (await client.get("/v1/models", headers={name: said, "x-api-key": "a"})).status_code == 200


async def test_of_several_headers_that_name_the_caller_each_one_counts(endpoint: Callable[..., Any]) -> None:
    here, elsewhere = ("x-forwarded-for", "127.0.0.1"), ("x-forwarded-for", "203.0.113.9")
    async with endpoint().client() as client:
        for headers in ([here, elsewhere], [elsewhere, here], [here, ("forwarded", "for=203.0.113.9")]):
            assert (await client.get("/v1/models", headers=headers)).status_code == 403
        assert (await client.get("/v1/models", headers=[here, here])).status_code == 200


SPELLINGS = (
    "/metrics",
    "/v1/metrics",
    "//metrics",
    "/metrics/",
    "/openai/v1/metrics",
    "/api/metrics",
    "/v1/v1/metrics",
)
SPELLINGS += tuple(
    f"{prefix}/decisions/dec-1" for prefix in ("", "/v1", "/v1/v1", "/openai/v1", "/anthropic/v1", "/api")
)
SPELLINGS += ("/console", "/console/", "//console", "/console/decisions/dec-1", "/v1/console", "/v1/audit", "/audit/")


async def test_no_method_and_no_spelling_opens_an_administrators_route(endpoint: Any) -> None:
    at = endpoint(secrets=("a",), scopes=("use",))
    at.accounts.refusals = RefusalDelays(clock=itertools.count(step=60).__next__)  # no refusal waits
    async with at.client() as client:
        for path in SPELLINGS:
            for method in ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE"):
                for headers in ({}, {"x-api-key": "a"}, {"x-api-key": "a", "x-http-method-override": "GET"}):
                    reply = await client.request(method, path, headers=headers)
                    assert reply.status_code in (401, 403, 404, 405), (method, path, reply.status_code)
                    assert "serve_graph_" not in reply.text


@pytest.mark.parametrize(
    "fields",
    [
        {"metadata": {"serve_graph.quality_floor": "\u0661\u0660"}},
        {"metadata": {"serve_graph.quality_floor": "NaN"}},
        {"metadata": {"serve_graph.deadline_s": "Infinity"}},
        {"metadata": {"serve_graph.deadline_s": "1e400"}},
        {"metadata": {"a": [[[[]]]]}},
        {"metadata": [{}] * 40},
        {"max_tokens": "\u0665"},
        {"temperature": "0.5"},
        {"n": True},
        {"stop": [["a"]]},
        {"user": {"a": 1}},
        {"tool_choice": [[]]},
        {"stream_options": {"a": 1}},
        {"serve_graph": {"session": ["a"]}},
        {"response_format": [{}]},
    ],
    ids=str,
)
async def test_what_is_no_value_of_a_field_is_refused_by_name(endpoint: Any, fields: dict[str, Any]) -> None:
    body = {"model": "auto", "messages": [{"role": "user", "content": "hi"}], **fields}
    async with endpoint(secrets=("a",)).client() as client:
        reply = await client.post("/v1/chat/completions", json=body, headers={"x-api-key": "a"})
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == next(iter(fields))
