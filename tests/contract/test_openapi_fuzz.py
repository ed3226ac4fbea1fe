"""schemathesis on the OpenAPI document: whatever is sent, no 5xx, and every reply is one the document describes.

`SERVE_GRAPH_FUZZ_CASES` sets the number of cases per operation (1,000 for a full run), half as many
of what is not well formed.
"""

import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed (the dev extra has it)")

from schemathesis.checks import not_a_server_error  # noqa: E402
from schemathesis.specs.openapi.checks import (  # noqa: E402
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from serve_graph.cascade.fakes import FakeEmbedder  # noqa: E402

CASES = int(os.environ.get("SERVE_GRAPH_FUZZ_CASES", "10"))
CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)
OPERATIONS = [
    ("/v1/chat/completions", "POST"),
    ("/v1/completions", "POST"),
    ("/v1/responses", "POST"),
    ("/v1/messages", "POST"),
    ("/v1/messages/count_tokens", "POST"),
    ("/v1/embeddings", "POST"),
    ("/v1/feedback", "POST"),
    ("/v1/models", "GET"),
    ("/v1/models/{model}", "GET"),
    ("/v1/decisions/{decision_id}", "GET"),
]


@pytest.fixture(scope="module")
def read() -> dict[str, Any]:
    """The document, once it was read."""
    return {}


@pytest.fixture
def api(endpoint: Callable[..., Any], a_record: Callable[..., Any], read: dict[str, Any]) -> Any:
    """The document of an endpoint of fakes, served to a caller from this machine."""
    if "api" in read:
        return read["api"]
    at = endpoint(embedder=FakeEmbedder(), max_body_bytes=100_000, stands_for_any=a_record())

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await at.app({**scope, "client": ("127.0.0.1", 1)}, receive, send)

    read["api"] = schemathesis.openapi.from_asgi("/openapi.json", app)
    return read["api"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", ["POSITIVE", "NEGATIVE"])
@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_nothing_that_can_be_sent_is_a_server_error(api: Any, path: str, method: str, mode: str) -> None:
    if mode == "NEGATIVE" and method == "GET":
        pytest.skip("nothing to get wrong")

    @settings(
        max_examples=CASES if mode == "POSITIVE" else max(CASES // 2, 1),
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        database=None,
        phases=[Phase.generate],
    )
    @given(api[path][method].as_strategy(generation_mode=schemathesis.GenerationMode[mode]))
    def whatever_is_sent(case: Any) -> None:
        reply = case.call()
        late = reply.status_code == 504 and "deadline_s" in str(case.body)  # wanted within a microsecond, say
        case.validate_response(reply, checks=CHECKS[1:] if late else CHECKS)
        statuses.add(reply.status_code)

    statuses: set[int] = set()
    whatever_is_sent()
    if mode == "POSITIVE" and "{" not in path:
        assert 200 in statuses  # the cases got past the front door
