"""The access key that the client commands send."""

from __future__ import annotations

import os
from collections.abc import Mapping

VARIABLE = "SERVE_GRAPH_KEY"


def key_headers(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the authorization header with the key of $SERVE_GRAPH_KEY; empty if it is not set.

    `demo` and `collect` need all scopes, `bench` needs `use` (and `force` to name a tier).
    """
    key = api_key(environment)
    return {"authorization": f"Bearer {key}"} if key else {}


def api_key(environment: Mapping[str, str] = os.environ) -> str:
    """Return the key of $SERVE_GRAPH_KEY, '' if it is not set."""
    return environment.get(VARIABLE, "").strip()
