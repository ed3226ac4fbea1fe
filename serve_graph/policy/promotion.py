"""Whether a registered version may be promoted, and the promotion itself: an alias moves, running graphs follow it."""

from __future__ import annotations

from datetime import UTC, datetime

from router_models.errors import CertificateError
from router_models.versions.registry import RegisteredVersion, find_version, set_alias, set_tags
from router_models.versions.review import review_refusal
from router_models.versions.router_version import RouterVersion
from serve_graph.config.graph import GraphConfig
from serve_graph.errors import ServeGraphError
from serve_graph.policy.pays import check_pays


def check_may_serve(found: RegisteredVersion, graph: GraphConfig) -> None:
    """Raise ServeGraphError where a version could take no traffic: for want of approval, or of a certificate."""
    if (refusal := review_refusal(found)) is not None:
        raise ServeGraphError(refusal)
    try:
        made = RouterVersion.load(found.folder(graph.state_folder.resolve() / "versions"), found.name).certificate
        fault = "it carries no certificate" if made is None else None
        if made is not None and datetime.now(UTC) >= made.expires_at:
            fault = f"its certificate expired at {made.expires_at.isoformat()}"
    except CertificateError as error:
        fault = str(error)
    if fault is not None:
        raise ServeGraphError(f"{found.name} can take no traffic: {fault}; `serve-graph certify` makes one that can")


def check_promotable(found: RegisteredVersion, graph: GraphConfig) -> None:
    """Raise ServeGraphError where a version could take no traffic, LossError where it would lose money."""
    check_may_serve(found, graph)
    version = RouterVersion.load(found.folder(graph.state_folder.resolve() / "versions"), found.name)
    check_pays(version, graph, datetime.now(UTC))


def point_alias(found: RegisteredVersion, graph: GraphConfig, alias: str = "stable") -> RegisteredVersion | None:
    """Point an alias at a version, and note which it replaces for `versions rollback`; returns that one.

    Done again it changes nothing. It checks nothing. Raises RegistryError.
    """
    before = find_version(graph.registry_uri, found.model, alias)
    if before is not None and before.number != found.number:
        set_tags(graph.registry_uri, found.model, found.number, {"replaced": before.number})
    set_alias(graph.registry_uri, found.model, alias, found.number)
    return before
