"""The OpenAPI document of this endpoint, generated from the models that validate its requests.

Request schemas are this project's pydantic models; reply schemas are the `openai` package's types, which clients use
to parse them.
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
        400: "The request is invalid, or the engine rejects it",
        401: "No access key, or an invalid one",
        403: "The access key lacks a scope or a permission",
        404: "The model, tier or decision does not exist",
        408: "The request body did not arrive in time",
        413: "The request body is too large",
        415: "The request body's content-encoding is not supported; see Accept-Encoding",
        429: "Too many requests; see Retry-After",
        499: "The client disconnected",
        500: "An internal error of this endpoint",
        503: "No permitted tier is available; see Retry-After",
        504: "The tier did not answer in time; see Retry-After",
        529: "The tier is full; see Retry-After",
    }
)


RETRY_AFTER = {
    "retry-after": {
        "description": "Seconds to wait before the next attempt",
        "schema": {"type": "integer", "minimum": 1},
    }
}
ERROR_HEADERS: Mapping[int, Mapping[str, Any]] = MappingProxyType(
    {
        401: {"www-authenticate": {"description": "Always `Bearer`", "schema": {"const": "Bearer"}}},
        415: {"accept-encoding": {"description": "What is supported", "schema": {"type": "string"}}},
        429: RETRY_AFTER,
        503: RETRY_AFTER,
        504: RETRY_AFTER,
        529: RETRY_AFTER,
    }
)
KEYS = """An access key, as `Authorization: Bearer KEY` (what OpenAI's clients send as their API key) or, as those of
Anthropic and of Azure do, `x-api-key: KEY` or `api-key: KEY`. Keys are created with `serve-graph keys new`; their
scopes are `use`, `force` (choosing a tier) and `admin`. Without any key the endpoint listens on loopback only and
requires none, which is the default (`access.open` lets it listen elsewhere). With keys, every route except `/healthz`
and `/readyz` requires one."""


def request_body(schema: str) -> dict[str, Any]:
    """Return the `openapi_extra` of a route that takes a JSON body of this schema."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": {"$ref": REF + schema}}}}}


def reply(schema: str, *, streams: str | None = None) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route that answers 200 with this schema, or with server-sent events of another."""
    content: dict[str, Any] = {"application/json": {"schema": {"$ref": REF + schema}}}
    if streams is not None:
        about = f"One server-sent event: `data` holds one {streams}, or an Error that ends the stream"
        event = {"event": {"type": "string"}, "data": {"type": "string", "description": about}}
        content["text/event-stream"] = {"schema": {"type": "object", "properties": event, "required": ["data"]}}
    return {200: {"description": "The answer", "content": content}}


def errors(*statuses: int, speaks: str = "") -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route that may fail with these statuses, with OpenAI's error object or another's."""
    content = {"application/json": {"schema": {"$ref": f"{REF}{speaks}Error"}}}
    return {
        status: {"description": REASONS[status], "content": content}
        | ({"headers": ERROR_HEADERS[status]} if status in ERROR_HEADERS else {})
        for status in statuses
    }


def describe(
    app: FastAPI, models: Sequence[str], embedders: Sequence[str], keyed: Callable[[], bool] = lambda: False
) -> None:
    """Make `app.openapi()` (and `/openapi.json`) return the whole document.

    `models` are the names that a request may give, `embedders` those that an embeddings request may give. `keyed`
    returns whether access keys are enabled, in which case the document requires one.
    """

    @cache
    def document(needs_key: bool) -> dict[str, Any]:
        spec = get_openapi(title=app.title, version=app.version, description=__doc__, routes=app.routes)
        parts = spec.setdefault("components", {})
        parts.setdefault("schemas", {}).update(_schemas(models, embedders))
        parts["securitySchemes"] = {SCHEME: {"type": "http", "scheme": "bearer", "description": KEYS}}
        for path, operations in spec["paths"].items():
            scopes = scopes_for(path) if needs_key else None
            for operation in operations.values():
                operation["security"] = [] if scopes is None else [{SCHEME: list(scopes)}]
        return spec

    app.openapi = lambda: document(keyed())  # type: ignore[method-assign]


def _schemas(models: Sequence[str], embedders: Sequence[str]) -> dict[str, Any]:
    """Return every schema that a route names, with nested ones as `<schema>.<part>`: parts may share a name."""
    from openai.types import Batch, Completion, CreateEmbeddingResponse, FileDeleted, FileObject
    from openai.types.chat import ChatCompletion, ChatCompletionChunk
    from openai.types.responses import Response

    from serve_graph.api.batches.shapes import BatchRequest
    from serve_graph.api.feedback import FeedbackRequest
    from serve_graph.api.messages import CountTokensRequest, MessagesRequest
    from serve_graph.api.messages.schemas import message_schemas
    from serve_graph.api.responses import ResponsesRequest
    from serve_graph.protocol.embeddings import EmbeddingsRequest
    from serve_graph.protocol.requests import ChatRequest, CompletionRequest

    messages = (MessagesRequest, CountTokensRequest)
    requests = (
        ChatRequest,
        CompletionRequest,
        ResponsesRequest,
        EmbeddingsRequest,
        FeedbackRequest,
        *messages,
        BatchRequest,
    )
    replies = (
        ChatCompletion, ChatCompletionChunk, Completion, CreateEmbeddingResponse, Response, FileObject, FileDeleted,
        Batch,
    )  # fmt: skip
    found = _plain() | message_schemas()
    for kind in (*requests, *replies):
        name, mode = kind.__name__, "validation" if kind in requests else "serialization"
        schema = kind.model_json_schema(ref_template=f"{REF}{name}.{{model}}", mode=mode)  # type: ignore[arg-type]
        found |= {f"{name}.{part}": inner for part, inner in schema.pop("$defs", {}).items()}
        if kind in requests and "model" in schema["properties"]:
            schema["properties"]["model"]["enum"] = list(embedders if kind is EmbeddingsRequest else models)
        found[name] = schema
    return found


def _plain() -> dict[str, Any]:
    text = {"type": "string"}
    maybe_text = {"type": ["string", "null"]}
    model = _object(id=text, object={"const": "model"}, created={"type": "integer"}, owned_by=text)
    entry = _object(
        actor=text, action=text, target=text, reason=maybe_text, detail={"type": "object"}, id=text, created_at=text
    )
    fault = _object(message=text, type=text, param=maybe_text, code=maybe_text)
    return {
        "Error": _object(error=fault),
        "Model": model,
        "ModelList": _object(object={"const": "list"}, data={"type": "array", "items": model}),
        "Health": _object(status={"const": "ok"}),
        "Readiness": _object(status={"enum": ["ready", "not ready"]}, ready={"type": "boolean"}),
        "FileList": _page("FileObject"),
        "BatchList": _page("Batch"),
        "Feedback": _object(id=text, object={"const": "feedback"}, decision=text, kind=text),
        "AuditList": _object(object={"const": "list"}, data={"type": "array", "items": entry}),
        "DecisionRecord": _object(id=text, tier=text, outcome=text, status={"type": "integer"}),
    }


def _page(of: str) -> dict[str, Any]:
    name, items = {"type": ["string", "null"]}, {"type": "array", "items": {"$ref": REF + of}}
    return _object(object={"const": "list"}, data=items, first_id=name, last_id=name, has_more={"type": "boolean"})


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}
