"""`versions promote` and `versions rollback`: which version the alias that a graph follows points at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from serve_graph.cli.output import DEFAULT_CONFIG, AllowLossOption, ConfigOption, say
from serve_graph.cli.versions.found import Number, check_version_pays, found_version
from serve_graph.errors import ServeGraphError, StoreUnavailableError

if TYPE_CHECKING:
    from serve_graph.config.graph import GraphConfig
    from serve_graph.policy.rollout import Rollout


def promote(
    version: Number,
    config: ConfigOption = DEFAULT_CONFIG,
    allow_loss: AllowLossOption = False,
    reason: Annotated[str, typer.Option(help="Why; needed for a canary that is under way.")] = "",
) -> None:
    """Point `stable` at an approved version; a running graph takes it. Example: serve-graph versions promote 3

    Where policy.version is another alias, it is that one that moves.
    A version that nobody has approved, or without a certificate that holds today, is refused. So is one whose tries
    cost more than they save at the prices in force, unless --allow-loss; `up` serves it with policy.allow_loss alone.
    A canary of it that is under way ends with the promotion, whatever its step, for the --reason that is given; a
    rollout of another version is aborted.
    """
    from serve_graph.policy.promotion import check_may_serve, point_alias
    from serve_graph.records import audit

    found, graph = found_version(version, config)
    check_may_serve(found, graph)
    if not allow_loss:
        check_version_pays(found, graph)
    if (trial := _canary_of(found.name, graph)) is not None:
        return _promote_canary(trial, graph, reason)
    alias = _followed(graph)
    before = point_alias(found, graph, alias)
    replaced = {} if before is None else {"replaced": before.name}
    audit.record(graph, audit.operator(), "versions.promote", found.name, reason.strip() or None, replaced)
    return say(f"{alias} → {found.name}" + (f" (was {before.name})" if before else ""))


def _canary_of(name: str, graph: GraphConfig) -> Rollout | None:
    """The canary of a version that is under way; None as well where the store is out of reach.

    The alias moves then, which ends the canary as soon as the graph and its store are there again.
    """
    from serve_graph.cli.versions.rollout_status import latest_rollout
    from serve_graph.records.audit import WITHIN_S

    try:
        found = latest_rollout(graph, WITHIN_S)
    except (StoreUnavailableError, ImportError, OSError):
        return None
    if found is None or not found.is_active or (found.kind, found.candidate) != ("canary", name):
        return None
    return found


def _promote_canary(rollout: Rollout, graph: GraphConfig, reason: str) -> None:
    from serve_graph.cli.versions.rollouts import move_by_person, rollout_line, step_fault
    from serve_graph.policy.rollout.transitions import Happened

    if not reason.strip():
        share = f"{100 * rollout.weight:g} % of traffic"
        raise ServeGraphError(f"a canary of {rollout.candidate} is under way, at {share}: say with --reason why now")
    fault = step_fault(graph, rollout.model, rollout.candidate, rollout.weight)
    say(rollout_line(move_by_person(graph, Happened.PROMOTE, reason)))
    if fault is not None:
        say(f"a running graph pauses it instead, as things are: {fault}")
    say(f"a running graph points {graph.policy.version} at it within seconds, one that does not run at its next start")


def rollback(config: ConfigOption = DEFAULT_CONFIG, allow_loss: AllowLossOption = False) -> None:
    """Point `stable` back at the version it replaced. Example: serve-graph versions rollback

    Where policy.version is another alias, it is that one that moves.
    As with `promote`, it must be approved and certified, and it must pay, unless --allow-loss.
    """
    from router_models.versions.registry import set_alias
    from serve_graph.config.graph import load_config
    from serve_graph.policy.promotion import check_may_serve
    from serve_graph.records import audit

    alias = _followed(load_config(config))
    found, graph = found_version(alias, config)
    number = found.tags.get("replaced")
    if number is None:
        raise ServeGraphError(f"{found.name} has no recorded predecessor; use `versions promote`")
    earlier, _ = found_version(number, config)
    check_may_serve(earlier, graph)
    if not allow_loss:
        check_version_pays(earlier, graph)
    set_alias(graph.registry_uri, found.model, alias, earlier.number)
    audit.record(graph, audit.operator(), "versions.rollback", earlier.name, None, {"replaced": found.name})
    say(f"{alias} → {earlier.name} (was {found.name})")


def _followed(graph: GraphConfig) -> str:
    """The alias that a graph follows; `stable` where it names none: a number, `latest`, or no version."""
    from router_models.versions.names import name_fault

    named = graph.policy.version
    return "stable" if name_fault("alias", named) else named
