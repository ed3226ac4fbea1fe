"""Pages from the Jinja2 templates beside this file: escaped, with headers that let nothing of elsewhere in.

No page has a script or a style of its own: both come from two files of this package, so the policy needs no exception.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from serve_graph.api.console.charts import money, percent, shown_number
from serve_graph.api.transport.connection import NamedResponse

if TYPE_CHECKING:
    from jinja2 import Environment

PACKAGE = "serve_graph.api.console"
POLICY = "; ".join(
    (
        *(f"{kind}-src 'self'" for kind in ("style", "script", "img")),
        "default-src 'none'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
MEDIA_TYPES = {"console.css": "text/css", "console.js": "text/javascript", "icon.svg": "image/svg+xml"}
SECTIONS = (
    ("/console", "Overview"),
    ("/console/decisions", "Decisions"),
    ("/console/labels", "Labels"),
    ("/console/certificate", "Certificate"),
    ("/console/signals", "Signals"),
)
"""The pages that every page links to."""


class PageReply(NamedResponse):
    """A page of the console; browsers keep no copy of it."""

    media_type = "text/html"

    def __init__(self, text: str, status_code: int = 200, headers: dict[str, str] | None = None) -> None:
        super().__init__(text.encode("utf-8", "replace"), status_code, HEADERS | {"cache-control": "no-store"})
        for name, value in (headers or {}).items():
            self.headers[name] = value


class StaticReply(NamedResponse):
    """A file that pages are shown with; its address changes with its content, so browsers may keep it."""

    def __init__(self, name: str) -> None:
        kept = {"cache-control": "public, max-age=31536000, immutable"}
        super().__init__(static_file(name), 200, HEADERS | kept, MEDIA_TYPES[name])


def page(template: str, at: str, **values: Any) -> str:
    """Return a page; `at` is its own address among SECTIONS. A value that is missing is an error."""
    return _environment().get_template(f"{template}.html.j2").render(at=at, sections=SECTIONS, **values)


@cache
def static_file(name: str) -> bytes:
    """Return a file of MEDIA_TYPES."""
    return (files(PACKAGE) / "static" / name).read_bytes()


@cache
def static_address(name: str) -> str:
    """Return the address of a file of MEDIA_TYPES."""
    return f"/console/static/{name}?v={hashlib.sha256(static_file(name)).hexdigest()[:12]}"


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader(PACKAGE),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=True,
    )
    made.globals["static"] = static_address
    made.filters |= {"percent": percent, "money": money, "number": shown_number}
    return made
