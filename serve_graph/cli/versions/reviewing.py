"""`versions approve` and `versions reject`: the review of a version, noted in the registry with who and why."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from serve_graph.cli.output import DEFAULT_CONFIG, AllowLossOption, ConfigOption, say
from serve_graph.cli.versions.found import Number, check_version_pays, found_version, is_served
from serve_graph.errors import ServeGraphError

ByOption = Annotated[str | None, typer.Option(help="Who reviewed it; the name you are logged in with if left out.")]
WhyOption = Annotated[str | None, typer.Option(help="Why, in a sentence. To be required from the next release on.")]
UNEXPLAINED = "no reason given"


def approve(
    version: Number,
    config: ConfigOption = DEFAULT_CONFIG,
    by: ByOption = None,
    reason: WhyOption = None,
    allow_loss: AllowLossOption = False,
) -> None:
    """Let a version take traffic: note who reviewed it and why. No other version is served (docs/guides/review.md).

    Where it is the version that the configuration serves it must pay as well (see `promote`).

    Example: serve-graph versions approve 3 --by anna --reason "read the report, harm 6 of 188"
    """
    found, graph = found_version(version, config)
    if not allow_loss and is_served(found, graph):
        check_version_pays(found, graph)
    _review(version, config, "approved", by, reason)


def reject(
    version: Number, config: ConfigOption = DEFAULT_CONFIG, by: ByOption = None, reason: WhyOption = None
) -> None:
    """Keep a version from traffic, or withdraw its approval: it is not promoted, and running graphs drop it.

    Example: serve-graph versions reject 3 --by anna --reason "loses on German questions"
    """
    _review(version, config, "rejected", by, reason)


def _review(
    version: str, config: Path, state: Literal["approved", "rejected"], by: str | None, reason: str | None
) -> None:
    from datetime import UTC, datetime

    from router_models.versions.registry import set_review
    from router_models.versions.review import FIRST_START, review_tags
    from serve_graph.records import audit

    who = _login() if by is None else by
    if who.strip().casefold() == FIRST_START:
        raise ServeGraphError(f"--by {who!r} is what `up` calls itself: give the name of who reviewed the version")
    if reason is None:
        sys.stderr.write("serve-graph: warning: a review without --reason will be refused from the next release on\n")
    tags = review_tags(state, who, datetime.now(UTC), UNEXPLAINED if reason is None else reason)
    found, graph = found_version(version, config)
    set_review(found, tags)
    action = "versions.approve" if state == "approved" else "versions.reject"
    audit.record(graph, audit.operator(), action, found.name, reason, {"by": who.strip()})
    say(f"{found.name}: {state} by {who.strip()}")


def _login() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no name for this user
        raise ServeGraphError("nobody is logged in by name here: say with --by who reviewed the version") from None
