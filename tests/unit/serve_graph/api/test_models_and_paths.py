"""The names and paths that clients use: aliases, prefixes, base URLs with and without `/v1`, and Azure's."""

from collections.abc import Callable
from typing import Any

import pytest
from openai import AsyncAzureOpenAI, AsyncOpenAI

from serve_graph.cascade.fakes import FakeEmbedder

Endpoints = Callable[..., Any]
ALIASES = {"gpt-4o": "auto", "gpt-4.1": "frontier", "text-embedding-3-small": "cheap"}
HELLO: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}


@pytest.mark.parametrize(
    ("model", "outcome", "tier"),
    [
        ("gpt-4o", "accepted", "cheap"),
        ("gpt-4.1", "forced", "frontier"),
        ("openai/gpt-4o", "accepted", "cheap"),
        ("openai/auto", "accepted", "cheap"),
        ("serve-graph/auto", "accepted", "cheap"),
        ("serve-graph/frontier", "forced", "frontier"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses"])
async def test_a_name_that_clients_use_is_the_model_that_is_meant(
    endpoint: Endpoints, path: str, model: str, outcome: str, tier: str
) -> None:
    at = endpoint(aliases=ALIASES)
    body = {"/v1/completions": {"prompt": "hello"}, "/v1/responses": {"input": "hello"}}.get(path, HELLO)
    async with at.client() as client:
        reply = await client.post(path, json=body | {"model": model})
    assert (reply.status_code, reply.headers["x-serve-graph-outcome"]) == (200, outcome)
    assert (at.record.tier, at.record.requested_model) == (tier, model)


@pytest.mark.parametrize("model", ["text-embedding-3-small", "openai/text-embedding-3-small", "serve-graph/cheap"])
async def test_an_alias_may_stand_for_what_embeds(endpoint: Endpoints, model: str) -> None:
    at = endpoint(aliases=ALIASES, embedder=FakeEmbedder())
    async with at.client() as client:
        reply = await client.post("/v1/embeddings", json={"model": model, "input": "a"})
    assert (reply.status_code, at.record.tier) == (200, "cheap")


@pytest.mark.parametrize(
    "model", ["gpt-5", "openai/gpt-5", "openai/openai/auto", "other/auto", "auto/", "/auto", "Auto"]
)
async def test_any_other_name_is_a_404(endpoint: Endpoints, model: str) -> None:
    reply = await endpoint(aliases=ALIASES).chat(model)
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "model_not_found")


async def test_models_list_the_aliases(endpoint: Endpoints) -> None:
    async with endpoint(aliases=ALIASES).client() as client:
        listed = [model["id"] for model in (await client.get("/v1/models")).json()["data"]]
        assert listed == ["auto", "cheap", "frontier", *ALIASES]
        for name in (*listed, "openai/gpt-4o", "serve-graph/auto"):
            assert (await client.get(f"/v1/models/{name}")).json()["id"] == name
        assert (await client.get("/v1/models/openai/gpt-5")).status_code == 404


async def test_choosing_a_tier_by_its_alias_needs_the_scope(endpoint: Endpoints) -> None:
    at = endpoint(aliases=ALIASES, secrets=("team",), scopes=("use",))
    async with at.client() as client:
        key = {"authorization": "Bearer team"}
        routed = await client.post("/v1/chat/completions", json=HELLO | {"model": "gpt-4o"}, headers=key)
        forced = await client.post("/v1/chat/completions", json=HELLO | {"model": "openai/gpt-4.1"}, headers=key)
    assert (routed.status_code, forced.status_code) == (200, 403)


@pytest.mark.parametrize(
    "base",
    ["/v1", "", "/", "/v1/", "/v1/v1", "/openai/v1", "/openai", "/api/v1"],
)
async def test_the_openai_client_is_answered_whatever_its_base_url(endpoint: Endpoints, base: str) -> None:
    at = endpoint(embedder=FakeEmbedder())
    async with at.client() as http:
        client = AsyncOpenAI(api_key="none", base_url=f"http://test{base}", http_client=http, max_retries=0)
        assert (await client.chat.completions.create(**HELLO)).choices[0].message.content == "cheap says"
        assert (await client.responses.create(model="auto", input="hello")).output_text == "cheap says"
        assert (await client.completions.create(model="auto", prompt="hello")).choices[0].text == "cheap says"
        assert len((await client.embeddings.create(model="auto", input="a")).data) == 1
        assert [model.id async for model in client.models.list()] == ["auto", "cheap", "frontier"]


@pytest.mark.parametrize("stream", [False, True])
async def test_azures_client_is_answered_by_the_deployment_in_the_path(endpoint: Endpoints, stream: bool) -> None:
    at = endpoint(aliases=ALIASES, secrets=("team",))
    async with at.client() as http:
        client = AsyncAzureOpenAI(
            api_key="team", api_version="2024-10-21", azure_endpoint="http://test", http_client=http, max_retries=0
        )
        said = await client.chat.completions.create(
            model="gpt-4.1", messages=[{"role": "user", "content": "hello"}], stream=stream
        )
        text = (
            "".join([c.choices[0].delta.content or "" async for c in said if c.choices])
            if stream
            else (said.choices[0].message.content)
        )
    assert (text, at.record.tier, at.record.requested_model) == ("frontier says", "frontier", "gpt-4.1")


@pytest.mark.parametrize("body", [{}, {"model": "auto"}, {"model": None}], ids=str)
async def test_the_path_names_the_model_whatever_the_body_says(endpoint: Endpoints, body: dict[str, Any]) -> None:
    at = endpoint(aliases=ALIASES)
    asked = {"messages": HELLO["messages"], **body}
    async with at.client() as client:
        path = "/openai/deployments/gpt-4.1/chat/completions?api-version=2024-10-21"
        reply = await client.post(path, json=asked)
        unknown = await client.post("/openai/deployments/gpt-5/chat/completions", json=asked)
    assert (reply.status_code, at.record.tier, unknown.status_code) == (200, "frontier", 404)


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer team"},
        {"authorization": "bearer team"},
        {"authorization": "BEARER  team "},
        {"x-api-key": "team"},
        {"api-key": "team"},
        {"api-key": " team "},
        {"authorization": "Basic abc", "x-api-key": "team"},
    ],
    ids=str,
)
async def test_a_key_is_read_from_each_header_that_clients_use(endpoint: Endpoints, headers: dict[str, str]) -> None:
    async with endpoint(secrets=("team",)).client() as client:
        assert (await client.get("/v1/models", headers=headers)).status_code == 200
        wrong = {name: value.replace("team", "wrong") for name, value in headers.items()}
        assert (await client.get("/v1/models", headers=wrong)).status_code == 401


@pytest.mark.parametrize(
    "path",
    ["/decisions/x", "//v1/decisions/x", "/v1/v1/decisions/x", "/openai/v1/decisions/x", "/metrics/", "//metrics"],
)
async def test_no_way_of_writing_a_path_goes_around_its_scope(endpoint: Endpoints, path: str) -> None:
    async with endpoint(secrets=("team",)).client() as client:
        assert (await client.get(f"http://test{path}")).status_code == 401
        assert (await client.get(f"http://test{path}", headers={"api-key": "team"})).status_code == 403
