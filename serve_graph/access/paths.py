"""The paths that clients use for one route: with and without `/v1`, twice, with slashes, and Azure's."""

from __future__ import annotations

ROUTED = frozenset(
    {
        "chat", "completions", "responses", "messages", "embeddings", "models", "decisions", "feedback", "audit",
        "files", "batches", "registry",
    }
)  # fmt: skip
"""The first words of the routes under `/v1`."""
CANONICAL = frozenset(
    {
        "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/v1/embeddings", "/v1/models",
        "/v1/feedback", "/v1/registry/events", "/healthz", "/readyz", "/metrics",
    }
)  # fmt: skip
"""Paths that are what they should be: most requests have one of these."""
ANTHROPIC = "anthropic"


def canonical(path: str) -> tuple[str, str | None]:
    """Return the path of the route that is meant, and the model where the path names one; unknown paths unchanged.

    `/v1/v1/models/`, `/models` and `/openai/v1/models` are `/v1/models`. Azure's
    `/openai/deployments/{model}/chat/completions`, and `/v1/engines/{model}/completions` of former days, name a model.
    """
    words = [word for word in path.split("/") if word]
    prefix = ""
    if words[:1] == [ANTHROPIC]:
        prefix, words = f"/{ANTHROPIC}", words[1:]
    model, left = None, words
    while left and left[0] in ("v1", "openai", "api"):
        left = left[1:]
    if len(left) > 2 and left[0] in ("deployments", "engines"):
        model, left = left[1], left[2:]
    if left and left[0] in ROUTED:
        return f"{prefix}/v1/{'/'.join(left)}", model
    return f"{prefix}/{'/'.join(words)}" if words else prefix or "/", None
