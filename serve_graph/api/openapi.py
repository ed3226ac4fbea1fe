"""The OpenAPI document: what the routes really take and give, from the models that check it.

Requests are our own pydantic models; replies are the `openai` package's types, which is what clients parse them with.
Routes name schemas; `describe` puts them into the document when it is first asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from serve_graph.access.auth import scopes_for

SCHEME = "access_key"
REF = "#/components/schemas/"
REASONS: Mapping[int, str] = MappingProxyType(
    {
        400: "The request is wrong, or the engine refuses it",
        401: "No access key, or not a valid one",
        403: "This caller may not do this",
        404: "There is no such model, tier or decision",
        413: "The body is too large",
        429: "Too many requests; see Retry-After",
        499: "The caller hung up",
        500: "A fault of this endpoint",
        503: "No tier that may answer can; see Retry-After",
        504: "The tier took too long; see Retry-After",
    }
)


RETRY_AFTER = {"retry-after": {"description": "Seconds to stay away", "schema": {"type": "integer", "minimum": 1}}}
ERROR_HEADERS: Mapping[int, Mapping[str, Any]] = MappingProxyType(
    {
        401: {"www-authenticate": {"description": "Always `Bearer`", "schema": {"const": "Bearer"}}},
        429: RETRY_AFTER,
        503: RETRY_AFTER,
        504: RETRY_AFTER,
    }
)
KEYS = """An access key, as `Authorization: Bearer KEY` (what OpenAI's clients send as their API key). Keys are made
with `serve-graph keys new`; their scopes are `use`, `force` (choosing a tier), `admin`. Without any key the endpoint
listens on loopback only and asks nobody for one: that is the default (`access.open` lets it listen elsewhere). With
keys every route but `/healthz` and `/readyz` needs one."""


def asks(schema: str) -> dict[str, Any]:
    """`openapi_extra` of a route that takes a JSON body of this schema."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": {"$ref": REF + schema}}}}}


def reply(schema: str, *, streams: str | None = None) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route that answers 200 with this schema, or with server-sent events of another."""
    content: dict[str, Any] = {"application/json": {"schema": {"$ref": REF + schema}}}
    if streams is not None:
        about = f"One server-sent event: `data` holds one {streams}, or an Error that ends the stream"
        event = {"event": {"type": "string"}, "data": {"type": "string", "description": about}}
        content["text/event-stream"] = {"schema": {"type": "object", "properties": event, "required": ["data"]}}
    return {200: {"description": "The answer", "content": content}}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route that may fail with these statuses, always with OpenAI's error object."""
    content = {"application/json": {"schema": {"$ref": REF + "Error"}}}
    return {
        status: {"description": REASONS[status], "content": content}
        | ({"headers": ERROR_HEADERS[status]} if status in ERROR_HEADERS else {})
        for status in statuses
    }


def describe(
    app: FastAPI, models: Sequence[str], embedders: Sequence[str], keyed: Callable[[], bool] = lambda: False
) -> None:
    """Make `app.openapi()` (and `/openapi.json`) the whole document.

    `models` are the names a request may give, `embedders` those that one for embeddings may. `keyed`: whether access
    keys are on now, and the document therefore asks for one.
    """

    @cache
    def document(asks_for_keys: bool) -> dict[str, Any]:
        made = get_openapi(title=app.title, version=app.version, description=__doc__, routes=app.routes)
        parts = made.setdefault("components", {})
        parts.setdefault("schemas", {}).update(_schemas(models, embedders))
        parts["securitySchemes"] = {SCHEME: {"type": "http", "scheme": "bearer", "description": KEYS}}
        for path, operations in made["paths"].items():
            scopes = scopes_for(path) if asks_for_keys else None
            for operation in operations.values():
                operation["security"] = [] if scopes is None else [{SCHEME: list(scopes)}]
        return made

    app.openapi = lambda: document(keyed())  # type: ignore[method-assign]


def _schemas(models: Sequence[str], embedders: Sequence[str]) -> dict[str, Any]:
    """Every schema a route names, by name, and what it refers to as `<name>.<part>`: parts of two may share a name."""
    from openai.types import Completion, CreateEmbeddingResponse
    from openai.types.chat import ChatCompletion, ChatCompletionChunk
    from openai.types.responses import Response

    from serve_graph.api.responses import ResponsesRequest
    from serve_graph.protocol.embeddings import EmbeddingsRequest
    from serve_graph.protocol.requests import ChatRequest, CompletionRequest

    asked = (ChatRequest, CompletionRequest, ResponsesRequest, EmbeddingsRequest)
    given = (ChatCompletion, ChatCompletionChunk, Completion, CreateEmbeddingResponse, Response)
    found = _plain()
    for kind in (*asked, *given):
        name, mode = kind.__name__, "validation" if kind in asked else "serialization"
        schema = kind.model_json_schema(ref_template=f"{REF}{name}.{{model}}", mode=mode)  # type: ignore[arg-type]
        found |= {f"{name}.{part}": inner for part, inner in schema.pop("$defs", {}).items()}
        if kind in asked:
            schema["properties"]["model"]["enum"] = list(embedders if kind is EmbeddingsRequest else models)
        found[name] = schema
    return found


def _plain() -> dict[str, Any]:
    text = {"type": "string"}
    maybe_text = {"type": ["string", "null"]}
    model = _object(id=text, object={"const": "model"}, created={"type": "integer"}, owned_by=text)
    fault = _object(message=text, type=text, param=maybe_text, code=maybe_text)
    return {
        "Error": _object(error=fault),
        "Model": model,
        "ModelList": _object(object={"const": "list"}, data={"type": "array", "items": model}),
        "Health": _object(status={"const": "ok"}),
        "Readiness": _object(ready={"type": "boolean"}),
        "DecisionRecord": _object(id=text, tier=text, outcome=text, status={"type": "integer"}),
    }


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}
