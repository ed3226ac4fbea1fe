"""`POST /v1/feedback`: what callers, people and programs say of an answer, whenever they say it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from router_models.types.label_sources import parsed_source
from serve_graph.access.caller import CALLER
from serve_graph.access.turns import Turns
from serve_graph.api.openapi import errors, reply, request_body
from serve_graph.api.transport.connection import Reply, read_body
from serve_graph.api.transport.content_encoding import decoded
from serve_graph.errors import RequestError
from serve_graph.learning.feedback import FeedbackIntake, GivenFeedback
from serve_graph.protocol.requests import UnknownFields, parse_request
from serve_graph.records.feedback import FeedbackKind

MOST_FEEDBACK_BYTES = 64 * 1024
_WORDS = {"up": True, "down": False, "right": True, "wrong": False}
_SAID: dict[str, tuple[str, ...]] = {"thumbs": ("up", "down"), "label": ("right", "wrong")}
_IDEMPOTENCY_CHARS = 256


def _by_kind(schema: dict[str, Any]) -> None:
    """Say in the schema which values go with which kind, and what only labels have."""
    nothing = {"type": "null"}
    values = {
        ("thumbs",): {"enum": [True, False, *_SAID["thumbs"]]},
        ("score",): {"type": "number", "minimum": 0, "maximum": 1},
        ("correction", "text"): {"type": "string", "minLength": 1},
    }
    alone = {"last_tier_right": nothing, "labeller": nothing}
    label = {"kind": {"enum": ["label"]}, "value": {"enum": [True, False, *_SAID["label"]]}}
    forms = [{"kind": {"enum": list(kinds)}, "value": value, **alone} for kinds, value in values.items()]
    schema["anyOf"] = [{"properties": form} for form in (*forms, label)]
    properties = schema["properties"]
    properties["decision"]["pattern"] = "^[!-~]+$"
    for name, pattern in (("source", "^(human|programmatic|judge(:[!-~]+)?)$"), ("labeller", "^[!-~]+$")):
        properties[name]["anyOf"][0]["pattern"] = pattern


class FeedbackRequest(BaseModel):
    """The body of `POST /v1/feedback`."""

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True, json_schema_extra=_by_kind)
    decision: Annotated[str, Field(min_length=1, max_length=128)]
    """The decision: `x-serve-graph-decision`, `serve_graph.decision` or the reply's own `id`."""
    kind: FeedbackKind
    """`thumbs`, `score`, `label` (a key with the scope `admin`), `correction` or `text`."""
    value: bool | float | Annotated[str, Field(min_length=1, max_length=32_768)]
    """Thumbs: true, false, `up`, `down`. Label: true, false, `right`, `wrong`. Score: 0 to 1. Otherwise the text."""
    source: Annotated[str, Field(max_length=128)] | None = None
    """Whose word it is: `human` (the default), `programmatic`, `judge` or `judge:NAME`."""
    last_tier_right: bool | None = None
    """Of a label: whether the last tier's answer to the same request is right, where that is known."""
    labeller: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """Of a label: the person or the program that gave it; each has one label on a decision."""


def add_feedback(
    app: FastAPI,
    intake: FeedbackIntake,
    max_body_bytes: int,
    body_timeout_s: float | None,
    turns: Turns,
    unknown_fields: UnknownFields = "refuse",
) -> None:
    """Add the route to the application; encoded bodies are undone in `turns` of keys."""

    def rested() -> None:
        turns.check(CALLER.get().name)

    @app.post(
        "/v1/feedback",
        responses=reply("Feedback") | errors(400, 401, 403, 404, 408, 413, 415, 429, 500),
        openapi_extra=request_body("FeedbackRequest"),
    )
    async def feedback(request: Request) -> Response:
        most = min(max_body_bytes, MOST_FEEDBACK_BYTES)
        body, codings = await read_body(request, most, body_timeout_s, rested)
        body = await turns.run(CALLER.get().name, decoded, body, codings, most) if codings else body
        parsed = parse_request(FeedbackRequest, body, unknown_fields)
        given = given_feedback(parsed, request.headers.get("idempotency-key") or None)
        taken = await intake.take(given, CALLER.get())
        told: dict[str, Any] = {"id": taken.id, "object": "feedback", "decision": taken.decision, "kind": taken.kind}
        return Reply(told | ({} if given.text is None else {"text_kept": taken.text is not None}))


def given_feedback(parsed: FeedbackRequest, idempotency_key: str | None = None) -> GivenFeedback:
    """What a body says; raises RequestError, naming the field, where its value is none of its kind."""
    if idempotency_key is not None and len(idempotency_key) > _IDEMPOTENCY_CHARS:
        raise RequestError(f"Idempotency-Key is longer than {_IDEMPOTENCY_CHARS} characters", code="invalid_value")
    if parsed.kind != "label":
        for name in ("last_tier_right", "labeller"):
            if getattr(parsed, name) is not None:
                raise RequestError(f"{name} belongs to feedback of kind label", name, "invalid_value")
    try:
        source = parsed_source(parsed.source or "") or "human"
    except ValueError as error:
        raise RequestError(f"source: {error}", "source", "invalid_value") from None
    value, text = _valued(parsed.kind, parsed.value)
    if not parsed.decision.isprintable() or not (parsed.labeller or "").isprintable():
        name = "labeller" if parsed.decision.isprintable() else "decision"
        raise RequestError(f"{name} holds characters that cannot be printed", name, "invalid_value")
    return GivenFeedback(
        parsed.decision, parsed.kind, source, value, text, parsed.last_tier_right, parsed.labeller, idempotency_key
    )


def _valued(kind: str, value: bool | float | str) -> tuple[float | None, str | None]:
    """The number or the text that a kind of feedback has."""
    if kind in ("correction", "text"):
        if isinstance(value, str):
            return None, value
        raise RequestError(f"value of {kind} is a text", "value", "invalid_type")
    if kind == "score":
        if not isinstance(value, bool | str) and 0 <= value <= 1:
            return float(value), None
        raise RequestError("value of score is a number from 0 to 1", "value", "invalid_value")
    words = _SAID[kind]
    said = _WORDS[value] if isinstance(value, str) and value in words else value
    if isinstance(said, bool):
        return float(said), None
    raise RequestError(f"value of {kind} is true or false, or {' or '.join(words)}", "value", "invalid_value")
