"""What this project's own commands show at the door of a graph that asks for keys."""

from __future__ import annotations

import os
from collections.abc import Mapping

VARIABLE = "SERVE_GRAPH_KEY"


def key_headers(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Headers with the key of $SERVE_GRAPH_KEY, empty where there is none.

    `demo` and `collect` need all scopes, `bench` needs `use` (and `force` for a tier's name).
    """
    key = api_key(environment)
    return {"authorization": f"Bearer {key}"} if key else {}


def api_key(environment: Mapping[str, str] = os.environ) -> str:
    """The key of $SERVE_GRAPH_KEY, '' where there is none."""
    return environment.get(VARIABLE, "").strip()
