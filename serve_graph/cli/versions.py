"""`serve-graph versions …`: list, show and review registered versions, and move aliases."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serve_graph.cli.output import DEFAULT_CONFIG, AllowLossOption, ConfigOption, JsonOption, columns, say, say_json
from serve_graph.errors import ServeGraphError

if TYPE_CHECKING:
    from router_models.versions.registry import RegisteredVersion
    from serve_graph.config.graph import GraphConfig

app = typer.Typer(help="Review router versions and move their aliases.", no_args_is_help=True, rich_markup_mode=None)
Number = Annotated[str, typer.Argument(help="A version number or alias.")]


@app.command("list")
def list_(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """List every registered version, newest first. Example: serve-graph versions list"""
    from router_models.versions.registry import list_versions
    from serve_graph.config.graph import load_config

    graph = load_config(config)
    found = list_versions(graph.registry_uri, graph.policy.model_name)
    if as_json:
        say_json([{"version": v.name, "aliases": v.aliases, "tags": dict(v.tags)} for v in found])
        return
    rows = [["version", "aliases", "status", "certificate"]]
    rows += [
        [v.name, ",".join(v.aliases) or "-", v.tags.get("status", "-"), v.tags.get("certificate", "-")] for v in found
    ]
    say(
        columns(rows)
        if found
        else f"no versions of {graph.policy.model_name} yet; `serve-graph certify` registers one"
    )


@app.command()
def show(version: Number = "stable", config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Print a version's report (--json: thresholds, certificates). Example: serve-graph versions show stable"""
    from datetime import UTC, datetime

    from router_models.reports.headline import headline
    from router_models.versions.router_version import RouterVersion
    from serve_graph.config.graph import load_config
    from serve_graph.policy.pays import break_even_of

    graph = load_config(config)
    found = _found(version, config)
    folder = found.folder(graph.state_folder.resolve() / "versions")
    loaded = RouterVersion.load(folder, found.name)
    if as_json:
        certificate = loaded.certificate.to_json() if loaded.certificate else None
        points = {
            tier: {"route_at": str(p.route_at), "accept_at": str(p.accept_at), "abstain_below": p.abstain_below}
            for tier, p in loaded.policy.points.items()
        }
        prefixes = {
            tier: {"tokens": p.tokens, "accept_at": str(p.accept_at), "certificate": proof.to_json()}
            for tier, p in loaded.policy.prefixes.items()
            if (proof := loaded.prefix_certificates.get(tier)) is not None
        }
        overload_points = {
            tier: {"spill_at": str(p.serve_at), "certificate": loaded.overload_certificates[tier].to_json()}
            for tier, p in loaded.policy.overload_points.items()
        }
        shown: dict[str, Any] = {"version": found.name, "aliases": found.aliases, "points": points}
        shown |= {"certificate": certificate}
        even = break_even_of(loaded, graph, datetime.now(UTC))
        shown |= {"delta_together": loaded.delta_together}
        shown |= {"break_even": None if even is None else even.to_json()}
        shown |= {"headline": headline(loaded.certificate) if loaded.certificate else []}
        say_json(shown | {"prefixes": prefixes, "spills": overload_points})
        return
    say(f"{found.name}  aliases: {', '.join(found.aliases) or '-'}  status: {found.tags.get('status', '-')}")
    if (even := break_even_of(loaded, graph, datetime.now(UTC))) is not None:
        say(f"break-even: {even.text()}" + ("; it loses money" if even.loses else ""))
    say(f"files: {folder}\n")
    say((folder / "report.md").read_text())


@app.command()
def approve(version: Number, config: ConfigOption = DEFAULT_CONFIG, allow_loss: AllowLossOption = False) -> None:
    """Mark a version as reviewed and approved. Example: serve-graph versions approve 3

    Where it is the version that the configuration serves it must pay as well (see `promote`).
    """
    from serve_graph.config.graph import load_config

    graph, found = load_config(config), _found(version, config)
    if not allow_loss and _is_served(found, graph):
        _check_pays(found, graph)
    _tag(version, config, "approved")


@app.command()
def reject(version: Number, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Mark a version as rejected; it can no longer be promoted. Example: serve-graph versions reject 3"""
    _tag(version, config, "rejected")


@app.command()
def promote(version: Number, config: ConfigOption = DEFAULT_CONFIG, allow_loss: AllowLossOption = False) -> None:
    """Point `stable` at an approved version (effective at the next start). Example: serve-graph versions promote 3

    A version whose tries cost more than they save at the prices in force is refused unless --allow-loss; `up` serves
    it with policy.allow_loss alone.
    """
    from router_models.versions.registry import find_version, set_alias, set_tags
    from serve_graph.config.graph import load_config

    graph = load_config(config)
    found = _found(version, config)
    if found.tags.get("status") != "approved":
        raise ServeGraphError(f"{found.name} is {found.tags.get('status', 'pending')}; approve it first")
    if not allow_loss:
        _check_pays(found, graph)
    before = find_version(graph.registry_uri, found.model, "stable")
    if before is not None and before.number != found.number:
        set_tags(graph.registry_uri, found.model, found.number, {"replaced": before.number})
    set_alias(graph.registry_uri, found.model, "stable", found.number)
    say(f"stable → {found.name}" + (f" (was {before.name})" if before else ""))


@app.command()
def rollback(config: ConfigOption = DEFAULT_CONFIG, allow_loss: AllowLossOption = False) -> None:
    """Point `stable` back at the version it replaced. Example: serve-graph versions rollback

    As with `promote`, it must pay, unless --allow-loss.
    """
    from router_models.versions.registry import set_alias
    from serve_graph.config.graph import load_config

    graph = load_config(config)
    found = _found("stable", config)
    earlier = found.tags.get("replaced")
    if earlier is None:
        raise ServeGraphError(f"{found.name} has no recorded predecessor; use `versions promote`")
    if not allow_loss:
        _check_pays(_found(earlier, config), graph)
    set_alias(graph.registry_uri, found.model, "stable", earlier)
    say(f"stable → {found.model}/{earlier} (was {found.name})")


def _found(version: str, config: Path) -> RegisteredVersion:
    from router_models.versions.names import check_name
    from router_models.versions.registry import find_version
    from serve_graph.config.graph import load_config

    graph = load_config(config)
    check_name("version", version)
    found = find_version(graph.registry_uri, graph.policy.model_name, version)
    if found is None:
        raise ServeGraphError(f"no version {version!r} of {graph.policy.model_name}; see `serve-graph versions list`")
    return found


def _is_served(found: RegisteredVersion, graph: GraphConfig) -> bool:
    """Whether the configuration serves this very version, so that approving it puts traffic on it."""
    from router_models.versions.registry import find_version

    if graph.policy.version in ("none", "builtin"):
        return False
    served = find_version(graph.registry_uri, found.model, graph.policy.version)
    return served is not None and served.number == found.number


def _check_pays(found: RegisteredVersion, graph: GraphConfig) -> None:
    """Raise LossError where a registered version would lose money; say from when on it would, by listed prices."""
    from datetime import UTC, datetime

    from router_models.versions.router_version import RouterVersion
    from serve_graph.policy.pays import check_pays, later_losses

    version = RouterVersion.load(found.folder(graph.state_folder.resolve() / "versions"), found.name)
    now = datetime.now(UTC)
    check_pays(version, graph, now)
    for moment, loss in later_losses(version, graph, now):
        say(f"from {moment:%Y-%m-%d %H:%M} on, by prices that are listed already, {loss}")


def _tag(version: str, config: ConfigOption, status: str) -> None:
    from router_models.versions.registry import set_tags
    from serve_graph.config.graph import load_config

    graph = load_config(config)
    found = _found(version, config)
    set_tags(graph.registry_uri, found.model, found.number, {"status": status})
    say(f"{found.name}: {status}")
