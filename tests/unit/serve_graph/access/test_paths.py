"""Whatever way a path is written, it leads to one route and needs that route's scopes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_graph.access.auth import scopes_for
from serve_graph.access.paths import CANONICAL, canonical

WORDS = st.sampled_from(["v1", "openai", "api", "", "anthropic", "deployments", "chat", "models", "decisions", "x"])


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("/chat/completions", "/v1/chat/completions"),
        ("/v1/chat/completions/", "/v1/chat/completions"),
        ("//v1//chat/completions", "/v1/chat/completions"),
        ("/v1/v1/chat/completions", "/v1/chat/completions"),
        ("/v1/v1/v1/responses/", "/v1/responses"),
        ("/openai/v1/responses", "/v1/responses"),
        ("/openai/models", "/v1/models"),
        ("/api/v1/embeddings", "/v1/embeddings"),
        ("/models/", "/v1/models"),
        ("/models/openai/auto", "/v1/models/openai/auto"),
        ("/messages/count_tokens", "/v1/messages/count_tokens"),
        ("/decisions/dec-1", "/v1/decisions/dec-1"),
        ("/anthropic/v1/messages/", "/anthropic/v1/messages"),
        ("/anthropic/v1/v1/messages", "/anthropic/v1/messages"),
        ("/healthz/", "/healthz"),
        ("/metrics/", "/metrics"),
        ("/", "/"),
        ("/nowhere", "/nowhere"),
        ("/v1/nowhere", "/v1/nowhere"),
        ("/v1", "/v1"),
        ("/openai/deployments/gpt-4o", "/openai/deployments/gpt-4o"),
        ("/v2/chat/completions", "/v2/chat/completions"),
    ],
)
def test_a_path_is_the_one_that_is_meant(written: str, meant: str) -> None:
    assert canonical(written) == (meant, None)


@pytest.mark.parametrize(
    "path",
    ["/openai/deployments/gpt-4o/embeddings", "/deployments/gpt-4o/embeddings", "/v1/engines/gpt-4o/embeddings"],
)
def test_a_path_may_name_the_model(path: str) -> None:
    assert canonical(path) == ("/v1/embeddings", "gpt-4o")


@given(st.lists(WORDS, max_size=6))
def test_what_is_canonical_stays_and_needs_the_scopes_of_its_route(words: list[str]) -> None:
    path, _ = canonical("/" + "/".join(words))
    assert canonical(path)[0] == path
    reached = path.removeprefix("/anthropic")
    if reached.startswith("/v1/decisions"):
        assert scopes_for(reached) == ("admin",)
    assert "//" not in path


@given(st.sampled_from(sorted(CANONICAL)))
def test_the_usual_paths_are_left_alone(path: str) -> None:
    assert canonical(path) == (path, None)
