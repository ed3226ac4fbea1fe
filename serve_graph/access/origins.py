"""Where a browser's request comes from: pages and host names that belong to this machine."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from urllib.parse import urlsplit

PRIVATE_DOMAINS = (".localhost", ".local", ".localdomain", ".internal", ".home.arpa", ".test", ".invalid")
"""Domains that the public DNS does not serve."""


def is_local_page(origin: str | None) -> bool:
    """Whether a browser's `Origin` header names this machine; True for None: not sent by a web page."""
    if origin is None:
        return True
    host = _host_of(origin)
    return host == "localhost" or is_loopback(host or "")


@lru_cache(256)
def is_private_host(host: str) -> bool:
    """Whether a `Host` header cannot be a page's own public domain: an address, one word, or a private domain.

    A page may have its domain resolved to this machine (DNS rebinding); its requests then have no foreign `Origin`,
    but still that domain as `Host`.
    """
    name = (_host_of(f"//{host}") or "").rstrip(".")
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return bool(name) and ("." not in name or name.endswith(PRIVATE_DOMAINS))
    return True


@lru_cache(256)
def is_loopback(host: str) -> bool:
    """Whether an address is a loopback address; False for host names."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def is_forwarded(said: str) -> bool:
    """Whether a proxy's `X-Forwarded-For` or `Forwarded` names another machine, or something that is no address."""
    steps = (pair.strip() for part in said.split(",") for pair in _naming(part.split(";")))
    return any(not is_loopback(_address_of(step)) for step in steps if step)


def _naming(pairs: list[str]) -> list[str]:
    """Return the pairs of one step that say who asked; its first where none is named so."""
    return [pair for pair in pairs if pair.strip().lower().startswith("for=")] or pairs[:1]


def _address_of(step: str) -> str:
    address = step.lower().removeprefix("for=").strip('"')
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.partition(":")[0] if address.count(":") == 1 else address


def _host_of(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        _ = parts.port
        return parts.hostname
    except ValueError:  # no URL, or a port that is no number: nothing that a browser sends
        return None
