from collections.abc import Callable, Iterator
from typing import Any

import httpx
import jsonschema
import pytest
from fastapi import FastAPI

import serve_graph
from router_models.types import Action
from serve_graph.access.keys import Keyring
from serve_graph.api.http import Backend, build_http
from serve_graph.cascade.fakes import FakeEmbedder, FakeJudge, ListSink, fake_context
from serve_graph.config.access import KeyConfig
from serve_graph.gateway.handler import Service
from serve_graph.learning.feedback import FeedbackIntake
from tests.fixtures.serving import Endpoint

Endpoints = Callable[..., Any]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The document of an endpoint without keys; nobody changes it."""
    made: dict[str, Any] = Endpoint(fake_context(), ListSink()).app.openapi()
    return made


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for inner in node.values():
            yield from references(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from references(inner)


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for operation in methods.values():
            yield path, operation


def keyed(keyring: Keyring) -> FastAPI:
    """The application of an endpoint that has access keys."""

    async def nothing(*_: Any) -> Any:
        return {"ready": True}

    service, feedback = Service(fake_context(), ListSink()), FeedbackIntake(nothing, [].append)
    return build_http(Backend(service, nothing, nothing, nothing, nothing, 4096, keyring=keyring, feedback=feedback))


def test_a_request_for_embeddings_may_name_what_embeds(endpoint: Endpoints) -> None:
    schemas = endpoint(embedder=FakeEmbedder()).app.openapi()["components"]["schemas"]
    assert schemas["EmbeddingsRequest"]["properties"]["model"]["enum"] == ["auto", "cheap"]
    assert schemas["ChatRequest"]["properties"]["model"]["enum"] == ["auto", "cheap", "frontier"]


def test_the_document_has_the_distributions_version(document: dict[str, Any]) -> None:
    assert document["info"]["version"] == serve_graph.__version__


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(references(document)) <= known


def test_every_generating_route_describes_its_request_and_its_errors(document: dict[str, Any]) -> None:
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings"):
        route = document["paths"][path]["post"]
        schema = route["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        assert "model" in document["components"]["schemas"][schema]["required"]
        assert {"200", "400", "401", "403", "404", "413", "429", "503", "504"} <= set(route["responses"])


def test_document_names_the_bearer_scheme_and_says_that_keys_are_off_by_default(document: dict[str, Any]) -> None:
    scheme = document["components"]["securitySchemes"]["access_key"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    assert "loopback only and requires none" in " ".join(scheme["description"].split())
    assert all(operation["security"] == [] for _, operation in operations(document)), "without keys none is required"


def test_with_keys_on_every_route_but_the_probes_asks_for_one() -> None:
    keyring = Keyring([KeyConfig(name="k", sha256="0" * 64)])
    asked = {path: operation["security"] for path, operation in operations(keyed(keyring).openapi())}
    assert asked.pop("/healthz") == asked.pop("/readyz") == []
    assert asked.pop("/v1/feedback") == [{"access_key": []}]
    assert asked.pop("/v1/models") == asked.pop("/v1/models/{model}") == [{"access_key": []}]
    assert asked.pop("/metrics") == asked.pop("/v1/decisions/{decision_id}") == [{"access_key": ["admin"]}]
    assert len(asked) == 6
    assert all(security == [{"access_key": ["use"]}] for security in asked.values())


async def test_what_the_document_asks_for_is_what_the_door_asks_for() -> None:
    """Every operation without a key: 401 where the document says so, and only there."""
    app = keyed(Keyring([KeyConfig(name="k", sha256="0" * 64)]))
    transport = httpx.ASGITransport(app=app, client=("127.0.0.1", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        for path, methods in app.openapi()["paths"].items():
            for method, operation in methods.items():
                reply = await client.request(method, path.replace("{decision_id}", "dec-1"))
                assert (reply.status_code == 401) == bool(operation["security"]), path
                if reply.status_code == 401:
                    assert reply.headers["www-authenticate"] == "Bearer"
                    assert "www-authenticate" in operation["responses"]["401"]["headers"]


def test_refusals_are_listed_with_their_headers(document: dict[str, Any]) -> None:
    for path, operation in operations(document):
        responses = operation["responses"]
        assert "403" in responses, path
        assert path in ("/healthz", "/readyz") or "401" in responses, path
        for status in {"429", "503", "504"} & set(responses):
            described = "headers" in responses[status]
            assert described != (path == "/readyz"), (path, status)
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings"):
        assert "retry-after" in document["paths"][path]["post"]["responses"]["429"]["headers"]


@pytest.mark.parametrize(
    ("path", "body", "schema"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]}, "ChatCompletion"),
        ("/v1/chat/completions", {"messages": [{"role": "wizard"}]}, "Error"),
        ("/v1/completions", {"prompt": "x"}, "Completion"),
        ("/v1/responses", {"input": "x"}, "Response"),
        ("/v1/embeddings", {"input": "x"}, "CreateEmbeddingResponse"),
    ],
)
@pytest.mark.parametrize("action", [Action.ACCEPTED, Action.ABSTAINED])
async def test_replies_are_what_the_document_says(
    endpoint: Endpoints, document: dict[str, Any], path: str, body: dict[str, Any], schema: str, action: Action
) -> None:
    async with endpoint(embedder=FakeEmbedder(), judge=FakeJudge(action)).client() as client:
        reply = await client.post(path, json={"model": "auto"} | body)
    jsonschema.validate(reply.json(), {"$ref": f"#/components/schemas/{schema}", **document})
