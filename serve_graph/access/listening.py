"""Whether a graph may listen where it is told to: without access keys only this machine may ask."""

from __future__ import annotations

from serve_graph.access.auth import is_loopback
from serve_graph.access.keys import Keyring
from serve_graph.config.graph import GraphConfig
from serve_graph.errors import ConfigError


def check_listening(config: GraphConfig, host: str | None = None) -> None:
    """Refuse to listen on `host` (default: `http.host`) beyond this machine without access keys.

    Behind HAProxy every caller looks local, so the door alone cannot tell. `access.open` says that this is wanted.
    Raises ConfigError naming the ways out.
    """
    host = config.http.host if host is None else host
    if host == "localhost" or is_loopback(host) or config.access.open:
        return
    if not Keyring(config.access.keys, config.keys_file):
        raise ConfigError(
            f"listening on {host} would let everybody in: there are no access keys. Make one with `serve-graph keys "
            f"new NAME` (it goes to {config.keys_file}), listen on 127.0.0.1, or, where something in front of the "
            "graph asks callers who they are, set access.open: true"
        )
