from collections.abc import Callable, Iterator
from typing import Any

import jsonschema
import pytest

from router_models.types import Action
from serve_graph.testing import FakeEmbedder, FakeJudge

Endpoints = Callable[..., Any]


@pytest.fixture
def document(endpoint: Endpoints) -> dict[str, Any]:
    made: dict[str, Any] = endpoint().app.openapi()
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


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(references(document)) <= known


def test_every_generating_route_describes_its_request_and_its_errors(document: dict[str, Any]) -> None:
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings"):
        route = document["paths"][path]["post"]
        schema = route["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        assert "model" in document["components"]["schemas"][schema]["required"]
        assert {"200", "400", "403", "404", "413", "503", "504"} <= set(route["responses"])


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
