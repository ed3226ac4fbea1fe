"""`versions calibrate`: what a share of requests to the last tier means under a version, here and in live traffic."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router_models.errors import by_number
from serve_graph.cli.extras import needs
from serve_graph.cli.output import DEFAULT_CONFIG, ConfigOption, JsonOption, columns, say, say_json
from serve_graph.cli.versions.found import Number, found_version
from serve_graph.errors import ServeGraphError

if TYPE_CHECKING:
    from router_models.metrics.score_shares import ScoreShares

LEAST_DECISIONS = 100
"""Live decisions, below which they say nothing of how scores are distributed."""


@needs("versions calibrate", "aiosqlite", "asyncpg")
def calibrate(
    version: Number = "stable",
    share: Annotated[
        list[float] | None, typer.Option(help="Share of requests for the last tier, 0 to 1 (repeatable).")
    ] = None,
    decisions: Annotated[int, typer.Option(min=0, help="How many of the latest decisions to look at.")] = 1000,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Say which threshold sends a share of requests to the last tier, and what share that is of live traffic.

    For `policy.share` and a request's `cost_quality`: a share, not a promise. Of the prompts that certified the
    version: which share of answers was right at it, beside sending the same share by chance. Of the latest decisions
    by this version: what part lies below the threshold, and which share to ask for instead, where traffic is another.

    Example: serve-graph versions calibrate stable --share 0.3 --share 0.5
    """
    import asyncio

    from router_models.metrics.score_shares import ScoreShares
    from router_models.versions.router_version import RouterVersion

    wanted = share or [0.1, 0.2, 0.3, 0.5, 0.7]
    if outside := [one for one in wanted if not 0 <= one <= 1]:
        raise ServeGraphError(f"--share {outside[0]:g}: a share lies between 0 and 1")
    registered, graph = found_version(version, config)
    folder = registered.folder(graph.state_folder.resolve() / "versions")
    loaded = RouterVersion.load(folder, registered.name)
    if not loaded.score_quantiles:
        raise ServeGraphError(
            f"{registered.name} does not know how its scores are distributed: certify it again, or one that has a "
            f"router for {loaded.policy.tiers[0]!r}"
        )
    live, without = asyncio.run(_live(graph.records_url, f"{registered.model}/{registered.number}", decisions))
    n, curves = _curves(folder)
    rows = [_row(one, ScoreShares(loaded.score_quantiles), live, curves) for one in wanted]
    said: dict[str, Any] = {"version": registered.name, "last_tier": loaded.policy.top, "prompts": n}
    said |= {"decisions": len(live), "without_estimate": without}
    if as_json:
        say_json(said | {"shares": rows})
        return
    titles = [
        f"share to {loaded.policy.top}",
        "below",
        "of certified",
        "right",
        "right by chance",
        "of live",
        "ask for",
    ]
    shown = [[_shown(row, name) for name in _NAMES] for row in rows]
    say("\n".join([f"{registered.name}: a share, not a promise", "", columns([titles, *shown])]))
    say(
        f"\ncertified on {n or 'an unknown number of'} prompts; {len(live)} live "
        f"{by_number(len(live), 'decision')} by this version"
    )
    if len(live) < LEAST_DECISIONS:
        say(f"{LEAST_DECISIONS} are needed to say what share they are")
    elif any(row["ask_for"] is None for row in rows):
        say("nothing to ask for: live estimates lie outside those that certified; certify again on such traffic")
    if without:
        say(f"{without} more had no estimate: under a share the last tier answers such, beyond the share")


_NAMES = ("share", "threshold", "certified_share", "right", "right_by_chance", "live_share", "ask_for")


async def _live(url: str, name: str, most: int) -> tuple[list[float], int]:
    """The estimates of the latest decisions by a version, and how many had none."""
    from router_models.types import DECIDED_BY_NO_VERSION
    from serve_graph.records.store import DecisionStore

    store = DecisionStore(url)
    try:
        newest = await store.latest(most, version=name) if most else []
    finally:
        await store.close()
    latest = [one for one in newest if one.outcome not in DECIDED_BY_NO_VERSION]
    found = [one.p_cheap_ok for one in latest if one.p_cheap_ok is not None]
    return found, len(latest) - len(found)


def _curves(folder: Path) -> tuple[int | None, dict[str, list[list[float]]]]:
    """The version's deferral curves by what ranks, and of how many prompts; none where its report has no numbers."""
    from router_models.reports.plots import DEFERRAL_FILE

    path = folder / DEFERRAL_FILE
    if not path.is_file():
        return None, {}
    made = json.loads(path.read_text())
    return made.get("n"), {one["name"]: one["points"] for one in made["curves"]}


def _row(
    share: float, scores: ScoreShares, live: list[float], curves: dict[str, list[list[float]]]
) -> dict[str, float | None]:
    """What one share means; None: not known. `right` is that of the part which the threshold really takes."""
    import numpy as np

    from router_models.reports.plots import wilson

    taken = scores.certified_share(share)
    row: dict[str, float | None] = {"share": share, "threshold": scores.threshold(share), "certified_share": taken}
    for name, curve in (("right", "router"), ("right_by_chance", "random")):
        row[name] = float(np.interp(taken, *np.transpose(curves[curve]))) if curve in curves else None
    row |= {"live_share": None, "live_low": None, "live_high": None, "ask_for": None}
    if len(live) >= LEAST_DECISIONS:
        below = scores.share_below(live, share)
        low, high = wilson(below * len(live), len(live), 1.96)
        row |= {"live_share": below, "live_low": low, "live_high": high}
        row["ask_for"] = share if share in (0, 1) else scores.share_of(float(np.quantile(live, share)))
    return row


def _shown(row: dict[str, float | None], name: str) -> str:
    value = row[name]
    if value is None:
        return "-"
    if math.isinf(value):
        return "all" if value > 0 else "none"
    return f"{value:.3f} ({row['live_low']:.3f} to {row['live_high']:.3f})" if name == "live_share" else f"{value:.3f}"
