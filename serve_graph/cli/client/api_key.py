"""The access key that the client commands send."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from serve_graph.errors import ServeGraphError

VARIABLE = "SERVE_GRAPH_KEY"
FILE_VARIABLE = "SERVE_GRAPH_KEY_FILE"
KEY_ADVICE = f"set ${VARIABLE}, or ${FILE_VARIABLE} to a file that holds one"


def key_headers(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the authorization header with the key there is; empty if there is none.

    `demo` and `collect` need all scopes, `bench` needs `use` (and `force` to name a tier).
    """
    key = api_key(environment)
    return {"authorization": f"Bearer {key}"} if key else {}


def api_key(environment: Mapping[str, str] = os.environ) -> str:
    """Return the key of $SERVE_GRAPH_KEY, or of the file that $SERVE_GRAPH_KEY_FILE names; '' if neither is set.

    Raises ServeGraphError where that file cannot be read.
    """
    if key := environment.get(VARIABLE, "").strip():
        return key
    if not (name := environment.get(FILE_VARIABLE, "")):
        return ""
    try:
        return Path(name).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ServeGraphError(f"${FILE_VARIABLE}: {name} cannot be read ({type(error).__name__})") from error
