"""What a running graph says of itself at `/readyz`, to whoever asks with the key there is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serve_graph.cli.client.api_key import KEY_ADVICE, key_headers
from serve_graph.errors import ServeGraphError

KEEPS_TO_ITSELF = f"the graph tells its version and promise to keys only: {KEY_ADVICE}"


def read_readiness(url: str, timeout_s: float = 10.0) -> dict[str, Any]:
    """Return what `/readyz` says, ready or not: with a key as much as that key may know, else `ready` alone.

    Raises ServeGraphError where nothing answers, or something else than a graph.
    """
    import httpx

    try:
        state = httpx.get(f"{url}/readyz", headers=key_headers(), timeout=timeout_s).json()
        if not isinstance(state, dict) or "ready" not in state:
            said = state.get("error", {}) if isinstance(state, dict) else {}
            why = said.get("message", "no graph's reply") if isinstance(said, dict) else "no graph's reply"
            raise ServeGraphError(f"what answers at {url} does not say whether it is ready: {why}")
    except (httpx.HTTPError, ValueError) as error:
        raise ServeGraphError(
            f"no graph answers at {url} ({type(error).__name__}); `serve-graph up` starts one"
        ) from None
    return state


def tells_everything(state: Mapping[str, Any]) -> bool:
    """Whether a graph told as much as it tells administrators, and everybody where there are no keys."""
    return "tier_faults" in state
