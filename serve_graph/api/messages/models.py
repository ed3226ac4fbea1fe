"""The list of models in Anthropic's shape, for requests with an `anthropic-version` header."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi import Request

UNKNOWN = "1970-01-01T00:00:00Z"  # Anthropic's word for a release date that is not known


def asks_anthropic(request: Request) -> bool:
    """Whether a request comes from a client of Anthropic's API."""
    return "anthropic-version" in request.headers


def anthropic_model(name: str) -> dict[str, Any]:
    """Return Anthropic's description of a model."""
    return {"type": "model", "id": name, "display_name": name, "created_at": UNKNOWN, "lifecycle": "active"}


def anthropic_models(names: Iterable[str]) -> dict[str, Any]:
    """Return the one page of models."""
    data = [anthropic_model(name) for name in names]
    return {"data": data, "has_more": False, "first_id": data[0]["id"], "last_id": data[-1]["id"]}
