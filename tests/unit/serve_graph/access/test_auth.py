"""Keys as callers meet them: over HTTP, in OpenAI's shape."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from router_models.types import Action
from serve_graph.access.accounts import AccountingSink, Accounts, was_escalated
from serve_graph.access.keys import Keyring, key_hash
from serve_graph.access.refusals import RefusalDelays
from serve_graph.api.http import Backend, build_http
from serve_graph.cascade.fakes import FakeEmbedder, FakeJudge, ListSink, fake_context
from serve_graph.config.access import EscalationWatchConfig, KeyConfig
from serve_graph.gateway.constraints import RoutingContext
from serve_graph.gateway.handler import Service
from serve_graph.records.metrics import render_metrics

HELLO = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}
ELSEWHERE = ("203.0.113.7", 50_000)


class Guarded:
    """The endpoint with keys, whose secrets are their names; its clock stands still until told."""

    def __init__(
        self,
        keys: list[dict[str, Any]],
        watch: EscalationWatchConfig | None = None,
        is_open: bool = False,
        **fakes: Any,
    ) -> None:
        self.now = 0.0
        self.sink = ListSink()
        made = [KeyConfig.model_validate({"sha256": key_hash(key["name"]), **key}) for key in keys]
        keyring = Keyring(made)
        self.accounts = Accounts(watch, lambda: self.now, lambda: datetime(2026, 3, 15, 12, tzinfo=UTC))
        sink = AccountingSink(self.sink, self.accounts, keyring.named)
        self.service = Service(fake_context(**fakes), sink, routing=RoutingContext(certified=0.9))
        backend = Backend(
            self.service,
            self.find,
            self.ready,
            self.metrics,
            self.nothing,
            4096,
            keyring=keyring,
            accounts=self.accounts,
            is_open=is_open,
        )
        self.app = build_http(backend)

    async def ask(
        self, key: str | None, path: str = "/v1/chat/completions", body: Any = HELLO, **headers: str
    ) -> httpx.Response:
        transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False, client=ELSEWHERE)
        shown = {} if key is None else {"authorization": f"Bearer {key}"}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=shown | named) as client:
            return await (
                client.post(path, json=body)
                if path.endswith(("completions", "embeddings", "messages"))
                else client.get(path)
            )

    async def find(self, decision_id: str) -> Any:
        return next((record for record in self.sink.records if record.id == decision_id), None)

    async def ready(self) -> dict[str, Any]:
        return {"ready": True, "coverage": self.service.metrics.coverage()}

    async def metrics(self) -> str:
        return render_metrics(self.service.metrics, 0, {}, self.accounts.watch.caps)

    async def nothing(self) -> None:
        return None


def error_of(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert set(response.json()) == {"error"}
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


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


async def test_requests_beyond_the_limit_are_429_until_there_is_room() -> None:
    at = Guarded([{"name": "team", "requests_per_min": 2}, {"name": "other"}])
    statuses = [(await at.ask("team")).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    refused = await at.ask("team")
    error = error_of(refused, 429)
    assert (error["type"], error["code"], refused.headers["retry-after"]) == ("requests", "rate_limit_exceeded", "30")
    assert (await at.ask("other")).status_code == 200
    at.now = 30.0
    assert (await at.ask("team")).status_code == 200


async def test_tokens_are_counted_by_the_engine_and_waited_out() -> None:
    at = Guarded([{"name": "team", "tokens_per_min": 20}])  # the fake's answers are 15 tokens
    assert [(await at.ask("team")).status_code for _ in range(3)] == [200, 200, 429]
    assert error_of(await at.ask("team"), 429)["type"] == "tokens"


async def test_a_spent_budget_is_insufficient_quota() -> None:
    at = Guarded([{"name": "team", "usd_per_day": "0.00003"}])  # the fake's answers cost 0.00002
    assert [(await at.ask("team")).status_code for _ in range(3)] == [200, 200, 429]
    refused = await at.ask("team")
    assert error_of(refused, 429)["type"] == error_of(refused, 429)["code"] == "insufficient_quota"
    assert refused.headers["retry-after"] == str(12 * 3600)


async def test_escalations_by_one_key_alone_are_capped_and_counted() -> None:
    watch = EscalationWatchConfig(min_requests=20)
    judge = FakeJudge()
    at = Guarded([{"name": "attacker"}, {"name": "team"}, {"name": "boss", "scopes": ["admin"]}], watch, judge=judge)
    for _ in range(40):
        assert (await at.ask("team")).status_code == 200
    judge.action = Action.ESCALATED
    statuses = [(await at.ask("attacker")).status_code for _ in range(30)]
    assert statuses == [200] * 20 + [429] * 10
    assert "serve_graph_escalation_caps_total 10" in (await at.ask("boss", "/metrics")).text
    judge.action = Action.ACCEPTED
    assert (await at.ask("team")).status_code == 200


async def test_requests_that_nobody_judges_hide_no_escalations() -> None:
    watch = EscalationWatchConfig(min_requests=20)
    judge = FakeJudge()
    keys = [{"name": "attacker", "scopes": ["use", "force"]}, {"name": "team"}]
    at = Guarded(keys, watch, judge=judge, embedder=FakeEmbedder())
    for _ in range(40):
        await at.ask("team")
    judge.action = Action.ESCALATED
    for _ in range(20):
        await at.ask("attacker")
        for _ in range(5):
            await at.ask("attacker", "/v1/embeddings", {"model": "auto", "input": "a"})
        await at.ask("attacker", body=HELLO | {"model": "frontier"})
    assert error_of(await at.ask("attacker"), 429)["type"] == "escalations"


def test_an_answer_abstained_from_after_both_tiers_counts_as_escalated(a_record: Callable[..., Any]) -> None:
    [one] = a_record().calls[:1]
    both = (replace(one, tier="cheap"), replace(one, tier="frontier"))
    assert was_escalated(a_record(outcome="abstained", calls=both))
    assert not was_escalated(a_record(outcome="abstained", calls=both[:1]))
    assert was_escalated(a_record(outcome="escalated"))


async def test_a_keys_quality_floor_holds_whatever_is_asked_for() -> None:
    at = Guarded([{"name": "gold", "quality_floor": 0.95, "scopes": ["use", "force"]}, {"name": "team"}])
    assert (await at.ask("team")).headers["x-serve-graph-tier"] == "cheap"
    lower = HELLO | {"serve_graph": {"quality_floor": 0.1}}
    for body in (HELLO, lower):
        answered = await at.ask("gold", body=body)
        assert answered.headers["x-serve-graph-tier"] == "frontier"
    assert "quality floor 0.95: 0.9 is certified" in at.sink.records[-1].route_reason
    error_of(await at.ask("gold", body=HELLO | {"model": "cheap"}), 403)
    assert (await at.ask("gold", body=HELLO | {"model": "frontier"})).status_code == 200


async def test_streams_are_charged_to_their_key_too() -> None:
    at = Guarded([{"name": "team", "tokens_per_min": 20}])
    assert (await at.ask("team", body=HELLO | {"stream": True})).status_code == 200
    assert at.sink.records[0].key == "team"
    await at.ask("team")
    assert (await at.ask("team")).status_code == 429


async def test_secrets_are_nowhere_in_records_or_metrics() -> None:
    at = Guarded([{"name": "team", "sha256": key_hash("sg-very-secret"), "scopes": ["use", "admin"]}])
    assert (await at.ask("sg-very-secret")).status_code == 200
    metrics = (await at.ask("sg-very-secret", "/metrics")).text
    assert "sg-very-secret" not in repr(at.sink.records)
    assert "team" not in metrics


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
