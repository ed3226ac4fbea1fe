"""`versions gc`: remove versions that can never serve again, by rule; nothing is removed unless asked to."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serve_graph.cli.output import DEFAULT_CONFIG, ConfigOption, JsonOption, columns, say, say_json
from serve_graph.cli.versions.found import loaded_version
from serve_graph.errors import ServeGraphError

if TYPE_CHECKING:
    from router_models.versions.registry import RegisteredVersion
    from serve_graph.config.graph import GraphConfig


def gc(
    older_than_days: Annotated[int, typer.Option(help="Keep what expired within this many days.", min=0)] = 30,
    delete: Annotated[bool, typer.Option("--delete", help="Remove them; without it they are listed only.")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """List, or with --delete remove, versions without an alias or approval whose certificate expired long ago.

    Kept in any case: what an alias points at or would be rolled back to, what the configuration names by number, what
    a graph that runs at its address serves, and what is approved. Of a removed version the run stays, as deleted;
    `mlflow gc` frees its files.

    Example: serve-graph versions gc --older-than-days 90 --delete
    """
    from router_models.versions.registry import delete_version, list_versions
    from serve_graph.config.graph import load_config
    from serve_graph.records import audit

    graph = load_config(config)
    found = list_versions(graph.registry_uri, graph.policy.model_name)
    running = _running(graph)
    back = {f"{graph.policy.model_name}/{v.tags['replaced']}" for v in found if v.aliases and "replaced" in v.tags}
    before = datetime.now(UTC) - timedelta(days=older_than_days)
    kept = {version.name: _kept(version, graph, back, running, before) for version in found}
    gone = [version for version in found if kept[version.name] is None]
    if delete:
        for version in gone:
            delete_version(version)
            shutil.rmtree(version.cached_in(graph.state_folder.resolve() / "versions"), ignore_errors=True)
            audit.record(graph, audit.operator(), "versions.gc", version.name, "no alias, not approved, expired")
    rows: list[dict[str, Any]] = [
        {"version": name, "action": "keep" if why else "removed" if delete else "would remove", "why": why or _RULE}
        for name, why in kept.items()
    ]
    if as_json:
        return say_json(rows)
    say(columns([["version", "", "why"], *([row["version"], row["action"], row["why"]] for row in rows)]))
    return say(f"{len(gone)} of {len(found)} {'removed' if delete else 'to remove; --delete does'}")


_RULE = "no alias, not approved, expired"


def _kept(
    version: RegisteredVersion, graph: GraphConfig, back: set[str], running: str | None, before: datetime
) -> str | None:
    """Why a version is kept; None where it may go."""
    from router_models.errors import RouterModelsError
    from router_models.versions.review import review_state

    if version.aliases:
        return f"alias {', '.join(version.aliases)}"
    if version.name in back:
        return "what a rollback goes to"
    if graph.policy.version == version.number:
        return "policy.version"
    if version.name == running:
        return "served by a running graph"
    if review_state(version).approved:
        return "approved"
    try:
        made = loaded_version(version, graph).certificate
    except RouterModelsError as error:
        return f"its files cannot be read: {error}"
    if made is not None and made.expires_at > before:
        return f"its certificate's last day is {made.expires_at:%Y-%m-%d}"
    return None


def _running(graph: GraphConfig) -> str | None:
    """The version that a graph at the configuration's address serves; None where none runs there."""
    from serve_graph.cli.client.readiness import KEEPS_TO_ITSELF, read_readiness

    try:
        state = read_readiness(f"http://{graph.http.host}:{graph.http.port}", timeout_s=5.0)
    except ServeGraphError:
        return None
    if "version" not in state:
        raise ServeGraphError(f"a graph is running, and what it serves must not be removed. {KEEPS_TO_ITSELF}")
    return str(state["version"])
