"""Check that a graph without access keys is reachable from this machine only."""

from __future__ import annotations

from serve_graph.access.keys import Keyring
from serve_graph.access.origins import is_loopback
from serve_graph.config.graph import GraphConfig
from serve_graph.errors import ConfigError


def check_listening(config: GraphConfig, host: str | None = None) -> None:
    """Refuse to listen on `host` (default: `http.host`) beyond this machine without access keys.

    Behind HAProxy every client has a local address, so the middleware cannot detect this. `access.open` permits it
    explicitly. Raises ConfigError with the remedies.
    """
    host = config.http.host if host is None else host
    if host == "localhost" or is_loopback(host) or config.access.open:
        return
    if not Keyring(config.access.keys, config.keys_file).required:
        raise ConfigError(
            f"listening on {host} would admit everybody: there are no access keys. Create one with `serve-graph keys "
            f"new NAME` (it goes to {config.keys_file}), listen on 127.0.0.1, or, if something in front of the "
            "graph authenticates callers, set access.open: true"
        )
