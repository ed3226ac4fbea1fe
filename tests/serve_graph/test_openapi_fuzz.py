"""schemathesis on the OpenAPI document: whatever is sent, no 5xx, and every reply is one the document describes.

`SERVE_GRAPH_FUZZ_CASES` sets the number of cases per operation (1,000 for a full run).
"""

import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed (the dev extra has it)")

from schemathesis.checks import not_a_server_error  # noqa: E402
from schemathesis.specs.openapi.checks import (  # noqa: E402
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from serve_graph.testing import FakeEmbedder  # noqa: E402

CASES = int(os.environ.get("SERVE_GRAPH_FUZZ_CASES", "20"))
CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)


@pytest.fixture
def api(endpoint: Callable[..., Any]) -> Any:
    """The document of an endpoint of fakes, served to a caller from this machine."""
    at = endpoint(embedder=FakeEmbedder(), max_body_bytes=100_000)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await at.app({**scope, "client": ("127.0.0.1", 1)}, receive, send)

    return schemathesis.openapi.from_asgi("/openapi.json", app)


schema = schemathesis.pytest.from_fixture("api")


@schema.parametrize()  # type: ignore[untyped-decorator]
@settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
def test_nothing_that_can_be_sent_is_a_server_error(case: Any) -> None:
    case.call_and_validate(checks=CHECKS)
