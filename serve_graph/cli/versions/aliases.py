"""`versions promote` and `versions rollback`: which version `stable` points at."""

from __future__ import annotations

from serve_graph.cli.output import DEFAULT_CONFIG, AllowLossOption, ConfigOption, say
from serve_graph.cli.versions.found import Number, check_version_pays, found_version
from serve_graph.errors import ServeGraphError


def promote(version: Number, config: ConfigOption = DEFAULT_CONFIG, allow_loss: AllowLossOption = False) -> None:
    """Point `stable` at an approved version; a running graph takes it. Example: serve-graph versions promote 3

    A version that nobody has approved, or without a certificate that holds today, is refused. So is one whose tries
    cost more than they save at the prices in force, unless --allow-loss; `up` serves it with policy.allow_loss alone.
    """
    from serve_graph.policy.promotion import check_may_serve, point_alias
    from serve_graph.records import audit

    found, graph = found_version(version, config)
    check_may_serve(found, graph)
    if not allow_loss:
        check_version_pays(found, graph)
    before = point_alias(found, graph)
    replaced = {} if before is None else {"replaced": before.name}
    audit.record(graph, audit.operator(), "versions.promote", found.name, None, replaced)
    say(f"stable → {found.name}" + (f" (was {before.name})" if before else ""))


def rollback(config: ConfigOption = DEFAULT_CONFIG, allow_loss: AllowLossOption = False) -> None:
    """Point `stable` back at the version it replaced. Example: serve-graph versions rollback

    As with `promote`, it must be approved and certified, and it must pay, unless --allow-loss.
    """
    from router_models.versions.registry import set_alias
    from serve_graph.policy.promotion import check_may_serve
    from serve_graph.records import audit

    found, graph = found_version("stable", config)
    number = found.tags.get("replaced")
    if number is None:
        raise ServeGraphError(f"{found.name} has no recorded predecessor; use `versions promote`")
    earlier, _ = found_version(number, config)
    check_may_serve(earlier, graph)
    if not allow_loss:
        check_version_pays(earlier, graph)
    set_alias(graph.registry_uri, found.model, "stable", earlier.number)
    audit.record(graph, audit.operator(), "versions.rollback", earlier.name, None, {"replaced": found.name})
    say(f"stable → {earlier.name} (was {found.name})")
