"""Configuration of the HTTP endpoint: where it listens, what it accepts, and which web pages may use it."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, field_validator

from serve_graph.config.base import Frozen
from serve_graph.config.tiers.scaling import ScalingConfig

ANY_PAGE = frozenset({"*", "null"})
"""Origins that every web page can have: `null` is that of a sandboxed frame."""
_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>[^\s/:@?#\[\]]+|\[[0-9a-fA-F:.]+\])(?P<port>:(\d{1,5}|\*))?"
)


class CorsConfig(Frozen):
    """Which web pages may read the replies, by the browsers' CORS rules. Off until `origins` lists one.

    Without access keys, the origins listed here are also those that may send requests at all, beside pages of this
    machine; `*` and `null` need access keys.
    """

    origins: tuple[str, ...] = ()
    """Origins as browsers send them: `https://chat.example.com`, `app://obsidian.md`. A port or the host's first part
    may be `*`: `http://localhost:*` (any port, or none), `https://*.example.com`, `vscode-webview://*`. `null`: pages
    without an origin, such as local files. `*`: every page.
    """
    credentials: bool = False
    """Whether browsers may send cookies; access keys do not need it."""
    max_age_s: Annotated[int, Field(ge=0)] = 600
    """Seconds for which a browser may remember the answer to its preflight request."""

    @field_validator("origins")
    @classmethod
    def _readable(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(checked_origin(origin) for origin in origins)


class HttpConfig(Frozen):
    """The HTTP endpoint.

    A reply whose stream starts before the commit has status 200 before it is known which tier answers; a later failure
    is then an error event instead of a status.
    """

    host: str = "127.0.0.1"
    """Address to listen on. Beyond this machine, access keys (or `access.open`) are required."""
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    """Port to listen on."""
    haproxy: bool = True
    """Use Ray Serve's HAProxy, where its binary runs, instead of the Python proxy."""
    max_body_bytes: Annotated[int, Field(ge=1024)] = 32 * 1024 * 1024
    """Largest accepted request body, in bytes: as sent, and again once its content-encoding is undone. The default
    has room for several photos in base64.
    """
    head_timeout_s: Annotated[float, Field(gt=0)] = 10.0
    """Seconds within which a request's headers must have arrived, with HAProxy; whoever sends more slowly gets 408."""
    body_timeout_s: Annotated[float, Field(gt=0)] = 60.0
    """Seconds within which a request's body must have arrived; whoever sends more slowly gets 408."""
    cors: CorsConfig = CorsConfig()
    """Which web pages may use the endpoint."""
    keep_alive_s: Annotated[float, Field(gt=0)] = 5.0
    """Seconds of silence after which a stream sends a comment, which clients ignore."""
    start_before_commit: bool = True
    """Whether these comments are also sent before a tier is committed to."""
    deadline_s: Annotated[float, Field(gt=0)] | None = None
    """Seconds that a request may take in total, including its stream; a request may ask for less. null: no limit."""
    console: bool = True
    """Whether there are pages for people at `/console`, for keys with the scope `admin`. Without keys it answers this
    machine only, and not at all where `access.open` is set.
    """
    scaling: ScalingConfig = ScalingConfig(max_replicas=2, max_ongoing_requests=512, target_ongoing_requests=128)
    """Scaling of the ingress deployment."""

    @property
    def replica_message_bytes(self) -> int:
        """What a call between deployments may hold: by default 4 MiB, less than one photo."""
        return 2 * self.max_body_bytes + 16 * 2**20


def checked_origin(origin: str) -> str:
    """Return an origin or a pattern of origins, in lower case as browsers send it; raises ValueError for others."""
    written = origin.strip().lower()
    if written in ANY_PAGE:
        return written
    found = _ORIGIN.fullmatch(written)
    if found is None:
        raise ValueError(f"an origin is `scheme://host` or `scheme://host:port`, without a path; found {origin!r}")
    scheme, host = found["scheme"], found["host"]
    first, _, rest = host.partition(".")
    if "*" in rest or (first != "*" and "*" in first):
        raise ValueError(f"`*` may stand for the first part of a host or for a port; found {origin!r}")
    if first == "*" and scheme in ("http", "https") and "." not in rest:
        raise ValueError(f"{origin!r} would admit pages of everybody: name a domain, or say `*`")
    return written


def origin_pattern(origins: tuple[str, ...]) -> re.Pattern[str]:
    """Return the expression that matches (`fullmatch`) the origins which these, checked ones, name; never `*`."""
    return re.compile("|".join(_expression(origin) for origin in origins if origin != "*") or r"(?!)", re.IGNORECASE)


def _expression(origin: str) -> str:
    text = origin.removesuffix(":*")
    port = r"(:\d{1,5})?" if text != origin else ""
    return re.escape(text).replace(r"\*", r"[a-z0-9_.-]+") + port
