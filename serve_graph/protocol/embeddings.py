"""The request body of `POST /v1/embeddings`: validated, then passed to a tier that serves embeddings."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from router_models.types import Message, Query
from serve_graph.protocol.bounds import MAX_TOKEN_IDS
from serve_graph.protocol.requests import Extensible, Text

InputTokens = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1, max_length=100_000, fail_fast=True)]


class EmbeddingsRequest(Extensible):
    """The body of `POST /v1/embeddings`: text or token ids, one input or a list."""

    most_values: ClassVar[int] = MAX_TOKEN_IDS
    model: Annotated[str, Field(min_length=1, max_length=256)]
    input: (
        Text
        | Annotated[list[Text], Field(min_length=1, max_length=2048, fail_fast=True)]
        | InputTokens
        | Annotated[list[InputTokens], Field(min_length=1, max_length=2048, fail_fast=True)]
    )
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None
    user: str | None = None


def embeddings_query(request: EmbeddingsRequest) -> tuple[Query, dict[str, Any]]:
    """Return the Query to record and the body for the tier. Token ids are recorded without text."""
    texts = [request.input] if isinstance(request.input, str) else request.input
    messages = tuple(Message("user", text) for text in texts if isinstance(text, str))
    body = request.model_dump(exclude_unset=True, exclude={"model"})
    return Query(messages), body | request.extras
